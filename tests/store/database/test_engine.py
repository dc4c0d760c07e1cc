import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import BadSettings, StoreUnavailable
from app.store import migrate
from app.store.database.engine import Database
from app.store.database.group_commit import GroupCommit
from app.store.database.statements import upsert_adding
from app.store.database.url import parse_url
from app.store.schema import minute_counts
from tests.factories import MINUTE, NOON
from tests.store.conftest import Running


def modes_of(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def events_in(file: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("select events from unexported").fetchall()


ON_SQLITE = pytest.mark.parametrize("kind", ["sqlite"])


@ON_SQLITE
async def test_the_write_connection_syncs_every_commit(database: Database) -> None:
    """Asked of the connection in use: write-ahead log, and FULL (2) rather than NORMAL."""
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    found = await database.write(
        lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    )

    assert found == ["wal", 2, 1, 1]


@ON_SQLITE
async def test_every_connection_waits_for_a_lock(database: Database) -> None:
    """Ten seconds; Lytics waits for an answer for longer."""
    asked = [
        run(lambda c: c.exec_driver_sql("PRAGMA busy_timeout").scalar()) for run in (database.write, database.read)
    ]

    assert await asyncio.gather(*asked) == [10_000, 10_000]


@ON_SQLITE
async def test_all_files_are_the_owners_alone(database: Database, tmp_path: Path) -> None:

    def write(connection: Connection) -> dict[str, int]:
        connection.execute(text("insert into unexported values ('a', 's', 1, 0)"))
        return modes_of(tmp_path)

    modes = await database.write(write)

    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", "store.db.lock"}
    assert set(modes.values()) == {0o600}


@ON_SQLITE
async def test_a_second_process_is_refused_until_the_first_has_closed(database: Database, tmp_path: Path) -> None:
    """In one sentence that says what to do."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.raises(BadSettings, match="belongs to one process, so stop that one first"):
        Database.open(url)
    await database.close()
    again = Database.open(url)
    await again.ping()
    await again.close()


async def test_a_broken_rule_is_not_taken_for_a_store_that_is_away(database: Database) -> None:
    """That may pass, this is a mistake of ours."""
    statement = text("insert into unexported values (null, 's', 1, 0)")
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: connection.execute(statement))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("mysql://user@localhost/db", "starts with 'mysql', which can't be opened"),
        ("postgresql://user:sesame@localhost", "names no database on its server"),
        ("postgresql://user:sesame@localhost/", "names no database on its server"),
        ("postgresql://user:sesame@localhost/db?sslmode=require&pool=5&a=1", r"has \['a', 'pool'\] after the '\?'"),
        ("postgresql://user:sesame@localhost:port/db", "can't be read as the URL of a database"),
        ("mysql://user:sesame@localhost/db", "use sqlite:///FILE or postgresql://USER"),
        ("sesame", "can't be read as the URL of a database"),
        ("data/store.db", "can't be read as the URL of a database"),
        ("sqlite:////proc/nowhere/store.db", "can't be written"),
    ],
)
def test_a_wrong_url_is_refused_in_one_sentence(url: str, sentence: str) -> None:
    """Which says what to write instead, and does not quote a password."""
    with pytest.raises(BadSettings, match=sentence) as refused:
        Database.open(url)

    assert "\n" not in str(refused.value)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"])
def test_a_url_of_postgresql_is_taken_as_providers_give_it(scheme: str) -> None:
    """Whatever it calls the driver, and with the words of libpq."""
    parsed = parse_url(f"{scheme}://me:sesame@db.example.com:6432/sync?sslmode=verify-full")

    assert parsed.drivername == "postgresql+asyncpg"
    assert (parsed.username, parsed.password, parsed.database) == ("me", "sesame", "sync")
    assert (parsed.host, parsed.port) == ("db.example.com", 6432)
    assert dict(parsed.query) == {"ssl": "verify-full"}


def test_a_server_may_be_named_by_its_socket() -> None:
    parsed = parse_url("postgresql://me@/sync?host=/run/postgresql")

    assert dict(parsed.query) == {"host": "/run/postgresql"}


async def test_a_new_database_has_the_newest_schema(database: Database, database_url: str) -> None:
    """The steps lead to just the tables of this version, and a second run does nothing."""
    assert await database.write(migrate.differences) == []
    assert await migrate.migrate(database, database_url) == []


@ON_SQLITE
async def test_a_used_file_is_copied_before_a_step(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy stands beside it, holds all that was committed, and is its owner's alone."""
    add = text("insert into unexported values ('a', 's', 7, 0)")
    await database.write(lambda connection: connection.execute(add))
    monkeypatch.setattr(migrate, "_missing", lambda _: ["9999"])
    done = await migrate.migrate(database, f"sqlite:///{tmp_path / 'store.db'}")
    copy = tmp_path / "store.db.before-9999"

    assert done == ["9999"]
    assert events_in(copy) == [(7,)]
    assert modes_of(tmp_path)[copy.name] == 0o600


@pytest.mark.parametrize(
    "statement",
    [
        "insert into totals (export_id, accepted) values (1, 1)",
        "insert into totals (export_id, accepted, pending, delivered) values (1, 0, -1, 1)",
        "update exports set state = 'lost'",
        "update exports set state = 'running'",
        (
            "insert into exports (id, audience_id, audience_slug, account, email_field, fields, list_name, state,"
            " created_at) values (2, 'b', '', 'default', 'e', '{}', 'Lytics X', 'paused', 0)"
        ),
        (
            "insert into memberships (member_id, export_id, wanted, told, vars, revision, told_revision)"
            " values (1, 1, true, 'in', '{}', 1, 2)"
        ),
        "insert into members (account, address, lease) values ('default', 'a@example.com', 1)",
    ],
)
async def test_the_database_refuses_what_must_not_be(database: Database, statement: str) -> None:
    """Counts that don't add up, two exports of one list, a settlement of what never was, a lease without an end."""

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(
            "insert into exports (id, audience_id, audience_slug, account, email_field, fields, state, created_at)"
            " values (1, 'a1', 's', 'default', 'email', '{}', 'needs_name', 0)"
        )
        connection.exec_driver_sql(
            "insert into exports (id, audience_id, audience_slug, account, email_field, fields, list_name, state,"
            " created_at) values (3, 'a3', 's', 'default', 'email', '{}', 'Lytics X', 'running', 0)"
        )

    await database.write(start)
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: connection.exec_driver_sql(statement))


async def test_counts_are_added_to_those_that_are_there(database: Database, running: Running) -> None:
    """Also to those of the same call; another key is another row."""
    await running("A")
    names = ("accepted", "delivered", "superseded", "dead", "stale")
    new = [
        {"export_id": 1, "minute": minute, **dict(zip(names, counts, strict=True))}
        for minute, counts in ((NOON, (1, 2, 3, 4, 5)), (NOON, (10, 20, 30, 40, 50)), (NOON + MINUTE, (1, 0, 0, 0, 0)))
    ]
    for _ in range(2):
        await database.write(lambda connection: connection.execute(upsert_adding(connection, minute_counts), new))
    rows = await database.rows(select(minute_counts).order_by(minute_counts.c.minute))

    assert [tuple(row) for row in rows] == [
        (1, NOON, 22, 44, 66, 88, 110),
        (1, NOON + MINUTE, 2, 0, 0, 0, 0),
    ]


class Commits:
    """A commit that refuses what is bad, or everything while it is away."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_away = False

    async def __call__(self, items: list[int]) -> list[str]:
        await asyncio.sleep(0)
        self.batches.append(items)
        if self.is_away:
            raise StoreUnavailable("away")
        if 13 in items:
            raise ValueError("thirteen")
        return [str(item) for item in items]


async def test_callers_at_one_moment_share_a_commit() -> None:
    """Whoever comes while one runs goes into the next."""
    commits, sizes = Commits(), list[int]()
    group = GroupCommit(commits, on_commit=sizes.append)
    answers = await asyncio.gather(*(group.submit(n) for n in range(10)))

    assert answers == [str(n) for n in range(10)]
    assert commits.batches == [list(range(10))]
    assert sizes == [10]


async def test_only_the_culprit_hears_of_a_refusal() -> None:
    """A cancelled caller disturbs nobody either."""
    group = GroupCommit(Commits())
    gone = asyncio.create_task(group.submit(1))
    bad = asyncio.create_task(group.submit(13))
    good = asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    gone.cancel()
    results = await asyncio.gather(gone, bad, good, return_exceptions=True)
    await group.flush()

    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], ValueError)
    assert results[2] == "2"


async def test_a_store_that_is_away_fails_all_at_once() -> None:
    """Trying each on its own would only take longer."""
    commits = Commits()
    commits.is_away = True
    group = GroupCommit(commits)
    results = await asyncio.gather(*(group.submit(n) for n in range(5)), return_exceptions=True)

    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(commits.batches) == 1
