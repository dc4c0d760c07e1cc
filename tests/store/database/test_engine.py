"""Opening a database: its settings, files, URLs, schema and invariants."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import BadSettings
from app.store import migrate
from app.store.database.engine import Database
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
async def test_writer_syncs_every_commit(database: Database) -> None:
    """`synchronous` is FULL (2) rather than NORMAL."""
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
    found = await database.write(
        lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    )

    assert found == ["wal", 2, 1, 1]


@ON_SQLITE
async def test_connections_wait_ten_seconds_for_a_lock(database: Database) -> None:
    """Lytics waits longer than that for an answer."""
    asked = [
        run(lambda c: c.exec_driver_sql("PRAGMA busy_timeout").scalar()) for run in (database.write, database.read)
    ]

    assert await asyncio.gather(*asked) == [10_000, 10_000]


@ON_SQLITE
async def test_only_the_owner_can_read_the_files(database: Database, tmp_path: Path) -> None:

    def write(connection: Connection) -> dict[str, int]:
        connection.execute(text("insert into unexported values ('a', 's', 1, 0)"))
        return modes_of(tmp_path)

    modes = await database.write(write)

    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", "store.db.lock"}
    assert set(modes.values()) == {0o600}


@ON_SQLITE
async def test_second_process_is_refused_until_the_first_closes(database: Database, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.raises(BadSettings, match="only one process can use an SQLite file, so stop the other one first"):
        Database.open(url)
    await database.close()
    again = Database.open(url)
    await again.ping()
    await again.close()


async def test_violated_constraint_is_not_reported_as_unavailable(database: Database) -> None:
    statement = text("insert into unexported values (null, 's', 1, 0)")
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: connection.execute(statement))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("mysql://user@localhost/db", "starts with 'mysql', which is not supported"),
        ("postgresql://user:sesame@localhost", "names no database on its server"),
        ("postgresql://user:sesame@localhost/", "names no database on its server"),
        ("postgresql://user:sesame@localhost/db?sslmode=require&pool=5&a=1", r"has \['a', 'pool'\] after the '\?'"),
        ("postgresql://user:sesame@localhost:port/db", "is not the URL of a database"),
        ("mysql://user:sesame@localhost/db", "use sqlite:///FILE or postgresql://USER"),
        ("sesame", "is not the URL of a database"),
        ("data/store.db", "is not the URL of a database"),
        ("sqlite:////proc/nowhere/store.db", "can't be written"),
    ],
)
def test_wrong_url_is_refused_with_its_remedy(url: str, sentence: str) -> None:
    """The message has one line and does not contain the password."""
    with pytest.raises(BadSettings, match=sentence) as refused:
        Database.open(url)

    assert "\n" not in str(refused.value)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"])
def test_postgresql_urls_of_providers_are_accepted(scheme: str) -> None:
    """Any driver name and the parameters of libpq are accepted."""
    parsed = parse_url(f"{scheme}://me:sesame@db.example.com:6432/sync?sslmode=verify-full")

    assert parsed.drivername == "postgresql+asyncpg"
    assert (parsed.username, parsed.password, parsed.database) == ("me", "sesame", "sync")
    assert (parsed.host, parsed.port) == ("db.example.com", 6432)
    assert dict(parsed.query) == {"ssl": "verify-full"}


def test_url_may_name_a_unix_socket() -> None:
    parsed = parse_url("postgresql://me@/sync?host=/run/postgresql")

    assert dict(parsed.query) == {"host": "/run/postgresql"}


async def test_new_database_has_the_newest_schema(database: Database, database_url: str) -> None:
    """A second run of the migrations does nothing."""
    assert await database.write(migrate.differences) == []
    assert await migrate.migrate(database, database_url) == []


@ON_SQLITE
async def test_file_with_data_is_backed_up_before_a_migration(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is in the same folder and holds all commits. Only its owner can read it."""
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
async def test_database_enforces_invariants(database: Database, statement: str) -> None:
    """The invariants: counts add up, exports share no list, confirmed revisions exist, leases have an end."""

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


async def test_counts_are_added_to_existing_rows(database: Database, running: Running) -> None:
    """The rows may be part of the same statement."""
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
