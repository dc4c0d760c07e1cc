import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import BadSettings, StoreUnavailable
from app.store import engine, migrate
from app.store.engine import Database
from app.store.group import GroupCommit


def modes_of(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def events_in(file: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("select events from unexported").fetchall()


async def test_the_write_connection_syncs_every_commit(database: Database) -> None:
    """
    Asked of the connection in use: write-ahead log, and FULL (2) rather than NORMAL.
    """
    async with database.writing() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert found == ["wal", 2, 1]


async def test_all_files_are_the_owners_alone(database: Database, tmp_path: Path) -> None:
    async with database.writing() as connection:
        await connection.execute(text("insert into unexported values ('a', 's', 1, 0)"))
        modes = modes_of(tmp_path)

    assert set(modes) == {"store.db", "store.db-wal", "store.db-shm", "store.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_transactions_that_read_and_then_write_wait_for_each_other(database: Database) -> None:
    """
    With a deferred BEGIN most of them would be refused at once.
    """
    async with database.writing() as connection:
        await connection.execute(text("insert into unexported values ('a', 's', 0, 0)"))

    async def add_one() -> None:
        async with database.writing() as connection:
            events = (await connection.execute(text("select events from unexported"))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(text("update unexported set events = :events"), {"events": events + 1})

    await asyncio.gather(*(add_one() for _ in range(60)))
    async with database.reading() as connection:
        assert (await connection.execute(text("select events from unexported"))).scalar_one() == 60


async def test_a_reader_can_not_write(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.reading() as connection:
            await connection.execute(text("delete from unexported"))


async def test_a_second_process_is_refused_until_the_first_has_closed(database: Database, tmp_path: Path) -> None:
    """
    In one sentence that says what to do.
    """
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.raises(BadSettings, match="belongs to one process, so stop that one first"):
        Database.open(url)
    await database.close()
    again = Database.open(url)
    await again.ping()
    await again.close()


async def test_a_locked_file_is_unavailable_and_a_broken_rule_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The one may pass, the other is a mistake of ours.
    """
    monkeypatch.setattr(engine, "WAIT_SECONDS", 0.05)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    database = Database.open(url)
    await migrate.migrate(database, url)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="could not be used"):
        async with database.writing():
            pass
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await connection.execute(text("insert into unexported values (null, 's', 1, 0)"))
    await database.close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("postgresql://user@localhost/db", "can't open"),
        ("sqlite:////proc/nowhere/store.db", "can't be written"),
    ],
)
def test_a_wrong_url_is_refused_in_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(BadSettings, match=sentence):
        Database.open(url)


async def test_a_new_database_has_the_newest_schema(database: Database, tmp_path: Path) -> None:
    """
    The steps lead to just the tables of this version, and a second run does nothing.
    """
    async with database.writing() as connection:
        differences = await connection.run_sync(migrate.differences)

    assert differences == []
    assert await migrate.migrate(database, f"sqlite:///{tmp_path / 'store.db'}") == []


async def test_a_used_file_is_copied_before_a_step(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The copy stands beside it, holds all that was committed, and is its owner's alone.
    """
    async with database.writing() as connection:
        await connection.execute(text("insert into unexported values ('a', 's', 7, 0)"))
    monkeypatch.setattr(migrate, "_missing", lambda _: ["9999"])
    done = await migrate.migrate(database, f"sqlite:///{tmp_path / 'store.db'}")
    copy = tmp_path / "store.db.before-9999"

    assert done == ["9999"]
    assert events_in(copy) == [(7,)]
    assert modes_of(tmp_path)[copy.name] == 0o600


async def test_claims_read_only_who_is_due(database: Database) -> None:
    """
    Through the partial index, in its order: the cost does not grow with who is settled.
    """
    statement = (
        "explain query plan select id from members where account = 'a' and priority = 0 and due_at <= 5 "
        "order by due_at limit 10"
    )
    async with database.reading() as connection:
        plan = " ".join(str(row.detail) for row in await connection.exec_driver_sql(statement))

    assert "ix_members_due" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    "statement",
    [
        "insert into totals (export_id, accepted) values (1, 1)",
        "insert into totals (export_id, accepted, pending, delivered) values (1, 0, -1, 1)",
        "update exports set state = 'lost'",
        "update exports set state = 'running'",
        "insert into exports select 2, 'b', '', '', 'default', 'e', '{}', 'Lytics X', null, 0, 'paused', null, 0, 0",
        (
            "insert into memberships (member_id, export_id, wanted, told, vars, revision, told_revision)"
            " values (1, 1, 1, 'in', '{}', 1, 2)"
        ),
        "insert into members (account, address, lease) values ('default', 'a@example.com', 1)",
    ],
)
async def test_the_database_refuses_what_must_not_be(database: Database, statement: str) -> None:
    """
    Counts that don't add up, two exports of one list, a settlement of what never was, a lease without an end.
    """
    async with database.writing() as connection:
        await connection.exec_driver_sql(
            "insert into exports (id, audience_id, audience_slug, account, email_field, fields, state, created_at)"
            " values (1, 'a1', 's', 'default', 'email', '{}', 'needs_name', 0)"
        )
        await connection.exec_driver_sql(
            "insert into exports (id, audience_id, audience_slug, account, email_field, fields, list_name, state,"
            " created_at) values (3, 'a3', 's', 'default', 'email', '{}', 'Lytics X', 'running', 0)"
        )
    with pytest.raises(IntegrityError):
        async with database.writing() as connection:
            await connection.exec_driver_sql(statement)


class Commits:
    """
    A commit that refuses what is bad, or everything while it is away.
    """

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
    """
    Whoever comes while one runs goes into the next.
    """
    commits, sizes = Commits(), list[int]()
    group = GroupCommit(commits, on_commit=sizes.append)
    answers = await asyncio.gather(*(group.submit(n) for n in range(10)))

    assert answers == [str(n) for n in range(10)]
    assert commits.batches == [list(range(10))]
    assert sizes == [10]


async def test_only_the_culprit_hears_of_a_refusal() -> None:
    """
    A cancelled caller disturbs nobody either.
    """
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
    """
    Trying each on its own would only take longer.
    """
    commits = Commits()
    commits.is_away = True
    group = GroupCommit(commits)
    results = await asyncio.gather(*(group.submit(n) for n in range(5)), return_exceptions=True)

    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(commits.batches) == 1
