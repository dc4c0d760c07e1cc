"""Copies from SQLite to PostgreSQL: completeness, interruptions, and refusals with their next step."""

import asyncio
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from threading import Thread
from unittest.mock import ANY

import asyncpg
import pytest
from sqlalchemy import JSON, Column, LargeBinary, MetaData, Table, select

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.dialect import TRY_TO_SHARE_DATABASE
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.migrate import filled_tables, migrate
from app.store.moving import copy as copying
from app.store.moving.copy import Copied, copy
from app.store.moving.inspection import UnusableStore
from app.store.moving.source import Source, conversions_of
from app.store.schema import metadata
from tests import postgresql
from tests.factories import ACCOUNT, ADA, GRACE, GRACE_ID, MINUTE, Clock, enter, exit_, room, settlement
from tests.promises.processes import Process
from tests.store.filling import fill

PATIENCE_SECONDS = 60
MANY = 10_000
TABLES = metadata.sorted_tables
PASSWORD = "sesame-open"


def seen(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and the modification time of every file."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


RULES = (
    "SELECT string_agg(concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid)), E'\n'"
    " ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
)
INDEXES = "SELECT string_agg(indexdef, E'\n' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'public'"
DEFAULTS = (
    "SELECT string_agg(concat_ws(' ', table_name, column_name, column_default), E'\n' ORDER BY table_name, column_name)"
    " FROM information_schema.columns WHERE table_schema = 'public'"
)


# A shell that runs the tests in the background makes its programs ignore Ctrl-C.
WITH_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


class Stopped(Exception):
    """Raised by the test to interrupt the copy."""


@pytest.fixture
def kind() -> str:
    return "postgresql"


@pytest.fixture
def path(tmp_path: Path, migrated_file: Path) -> Path:
    """An SQLite file with rows in every table."""
    path = tmp_path / "store.db"
    shutil.copyfile(migrated_file, path)
    fill(path)
    return path


@pytest.fixture
def source_url(path: Path) -> str:
    return f"sqlite:///{path}"


def add_members(path: Path, many: int) -> None:
    """Add members, so that copying the table takes several batches."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO members (id, account, address) VALUES (?, 'default', ?)",
            ((number, f"person-{number}@example.com") for number in range(1000, 1000 + many)),
        )


async def rows_of(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables, as the store reads them."""
    database = Database.open(url)
    try:
        return {
            table.name: [tuple(row) for row in await database.rows(select(table).order_by(*table.primary_key))]
            for table in TABLES
        }
    finally:
        await database.close()


def stop_at(table: str) -> copying.Show:
    """Return a callback that interrupts the copy at a table."""

    def show(_done: int, _total: int, what: str) -> None:
        if what == table:
            raise Stopped

    return show


async def half(source_url: str, target_url: str, *, until_table: str = "memberships") -> None:
    """Start a copy and interrupt it."""
    with pytest.raises(Stopped):
        await copy(source_url, target_url, stop_at(until_table))


@asynccontextmanager
async def session(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def ask(url: str, statement: str) -> object:
    async with session(url) as connection:
        return await connection.fetchval(statement)


class TestEverything:
    async def test_every_table_is_copied(self, source_url: str, empty_url: str) -> None:
        """Rows that migrations insert are replaced, and the progress table is dropped."""
        shown: list[tuple[int, int, str]] = []
        found = await copy(source_url, empty_url, lambda *state: shown.append(state))
        before, after = await rows_of(source_url), await rows_of(empty_url)

        assert after == before
        assert found.tables == {name: len(rows) for name, rows in before.items()}
        assert all(found.tables.values())
        assert (found.rows, found.rows_before) == (shown[-1][0], 0)
        assert [done for done, _, _ in shown] == sorted(done for done, _, _ in shown)
        assert {what for _, _, what in shown} >= set(found.tables)
        assert await ask(empty_url, "SELECT to_regclass('copying')") is None

    async def test_target_with_empty_tables_is_accepted(self, source_url: str, database_url: str) -> None:
        """A row that migrations insert may have another value."""
        await postgresql.execute(database_url, "UPDATE versions SET version = 42 WHERE name = 'exports'")
        await copy(source_url, database_url)

        assert await rows_of(database_url) == await rows_of(source_url)

    async def test_new_rows_get_ids_after_the_highest(self, path: Path, source_url: str, empty_url: str) -> None:
        """In an empty table the ids begin at 1."""
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM rejected_events")
        await copy(source_url, empty_url)
        add_member = "INSERT INTO members (account, address) VALUES ('a', 'new@example.com') RETURNING id"
        add_rejected = (
            "INSERT INTO rejected_events (at, reason, happened, body_bytes, body)"
            " VALUES (0, '', '', 0, '') RETURNING id"
        )
        assert await ask(empty_url, add_member) == 28
        assert await ask(empty_url, add_rejected) == 1

    async def test_target_has_the_schema_of_the_migrations(
        self, source_url: str, empty_url: str, postgresql_url: str, migrated_template: str
    ) -> None:
        """This includes every constraint, index and default, even those that the copy drops temporarily."""
        await copy(source_url, empty_url)
        migrated = postgresql.named(postgresql_url, migrated_template)

        for what in (RULES, INDEXES, DEFAULTS):
            assert await ask(empty_url, what) == await ask(migrated, what)

    async def test_source_is_not_changed(self, path: Path, source_url: str, empty_url: str, tmp_path: Path) -> None:
        """Only the lock file is created in its folder."""
        before = seen(tmp_path)
        await copy(source_url, empty_url)

        assert seen(tmp_path) == before | {"store.db.lock": (b"", ANY)}

    async def test_commits_in_the_write_ahead_log_are_copied(self, path: Path, source_url: str, empty_url: str) -> None:
        """A service that is killed right after a commit leaves them there."""
        with closing(sqlite3.connect(path, isolation_level=None)) as open_elsewhere:
            open_elsewhere.execute("PRAGMA journal_mode=WAL")
            open_elsewhere.execute("INSERT INTO unexported VALUES ('last', 's', 1, 0)")
            found = await copy(source_url, empty_url)

        assert found.tables["unexported"] == 4
        assert await ask(empty_url, "SELECT events FROM unexported WHERE audience_id = 'last'") == 1

    def test_every_column_type_can_be_copied(self) -> None:
        """An unknown type must fail in this test rather than for an operator."""
        for table in TABLES:
            conversions_of(table)
            assert table.primary_key.columns, table.name
        unknown = Table("unknown", MetaData(), Column("what", LargeBinary), Column("text", JSON))

        with pytest.raises(TypeError, match=r"unknown\.what"):
            conversions_of(unknown)

    def test_migrations_insert_rows_only_into_versions(self) -> None:
        assert filled_tables() <= {"versions"}

    async def test_store_works_on_the_copied_database(self, tmp_path: Path, empty_url: str, clock: Clock) -> None:
        """Pending members are claimed and settled, and new changes are stored."""
        url = f"sqlite:///{tmp_path}/store.db"
        await _some_history(url, clock)
        await copy(url, empty_url)
        database = Database.open(empty_url)
        await migrate(database, empty_url)
        members = Members(database, clock)
        (claim,) = await members.claim(ACCOUNT, capacity=room(5), lease_for=MINUTE)
        await members.settle(settlement(claim))
        kept = await members.apply([exit_(at=60), enter(GRACE, lytics_id=GRACE_ID, at=60)])
        states = {
            address: [report.state for report in await members.find_by_address(address)] for address in (ADA, GRACE)
        }
        claimed = await members.claim(ACCOUNT, capacity=room(5), lease_for=MINUTE)
        await database.close()

        assert claim.address == ADA
        assert kept is not None
        assert states == {ADA: ["pending"], GRACE: ["pending"]}
        assert {member.address for member in claimed} == {ADA, GRACE}


async def _some_history(url: str, clock: Clock) -> None:
    database = Database.open(url)
    await migrate(database, url)
    exports, members = Exports(database, clock), Members(database, clock)
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    named = await exports.name(export.id, "A", "Lytics A")
    assert named.list_name is not None
    await exports.mark_list_ready(ACCOUNT, named.list_name, "list-id")
    await members.next_batch(export.id)
    await members.apply([enter()])
    await database.close()


class TestKilled:
    """A real process is killed with SIGKILL while it waits for a lock of another session."""

    @pytest.fixture
    def process(self, source_url: str, empty_url: str, tmp_path: Path) -> Iterator[Process]:
        words = ["copy", "--from", source_url, "--to", empty_url]
        process = Process(words, {}, tmp_path / "copy.log", prefix=[sys.executable, "-c", WITH_CTRL_C])
        yield process
        process.end()

    async def until_it_waits_for(self, holder: asyncpg.Connection, process: Process, url: str) -> None:
        waits = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND $1 = ANY (pg_blocking_pids(pid)))"
        )
        # Outside of a transaction: inside one, this view does not change.
        async with asyncio.timeout(PATIENCE_SECONDS), session(url) as observer:
            while not await observer.fetchval(waits, holder.get_server_pid()):
                assert process.is_running, process.log.read_text()
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def begun(self, process: Process, url: str) -> AsyncIterator[asyncpg.Connection]:
        """Start the copy while this session holds the lock."""
        database = Database.open(url)
        await migrate(database, url)
        await database.close()
        async with session(url) as holder:
            await holder.execute(f"BEGIN; LOCK TABLE {TABLES[0]} IN SHARE MODE")
            process.start()
            await self.until_it_waits_for(holder, process, url)
            yield holder

    def finish(self, process: Process) -> str:
        process.start()
        assert process.running is not None
        code = process.running.wait(PATIENCE_SECONDS)
        said = process.log.read_text()
        assert code == 0, said
        return said

    async def test_before_the_first_row(self, source_url: str, empty_url: str, process: Process) -> None:
        async with self.begun(process, empty_url) as holder:
            process.kill()
            await holder.execute("ROLLBACK")
            copied = await holder.fetchval("SELECT sum(rows) FROM copying")
        said = self.finish(process)

        assert copied == 0
        assert "of them before" not in said
        assert await rows_of(empty_url) == await rows_of(source_url)

    @pytest.mark.parametrize(
        "statement",
        [
            # A row after the first batch of its table; the last table.
            "INSERT INTO members (id, account, address) VALUES (7000, 'a', 'a')",
            f"LOCK TABLE {TABLES[-1]} IN SHARE MODE",
        ],
    )
    async def test_between_batches(
        self, path: Path, source_url: str, empty_url: str, process: Process, statement: str
    ) -> None:
        """Each row is copied once."""
        add_members(path, MANY)
        async with self.begun(process, empty_url) as first, session(empty_url) as second:
            await second.execute(f"BEGIN; {statement}")
            await first.execute("ROLLBACK")
            await self.until_it_waits_for(second, process, empty_url)
            process.kill()
            await second.execute("ROLLBACK")
            copied = await second.fetchval("SELECT sum(rows) FROM copying")
            members = await second.fetchval("SELECT count(*) FROM members")
        said = self.finish(process)

        assert copied >= members > 0
        assert f"{copied:,} by an earlier run" in said
        assert await rows_of(empty_url) == await rows_of(source_url)

    async def test_before_the_progress_table_goes(self, source_url: str, empty_url: str, process: Process) -> None:
        """All rows are copied, and only the progress table still has to be dropped."""
        async with self.begun(process, empty_url) as first, session(empty_url) as second:
            await second.execute("BEGIN; LOCK TABLE copying IN ACCESS SHARE MODE")
            await first.execute("ROLLBACK")
            await self.until_it_waits_for(second, process, empty_url)
            process.kill()
            await second.execute("ROLLBACK")
            is_marked = await second.fetchval("SELECT to_regclass('copying') IS NOT NULL")
        self.finish(process)

        assert is_marked
        assert await rows_of(empty_url) == await rows_of(source_url)

    async def test_ctrl_c_prints_how_to_resume(self, source_url: str, empty_url: str, process: Process) -> None:
        async with self.begun(process, empty_url) as holder:
            assert process.running is not None
            process.running.send_signal(signal.SIGINT)
            await holder.execute("ROLLBACK")
            code = await asyncio.to_thread(process.running.wait, PATIENCE_SECONDS)
        said = process.log.read_text()

        assert (code, said) == (130, f"The copy is not finished. {copying.RESUME_HINT}\n")


class TestUnfinished:
    async def test_service_does_not_start_on_it(self, source_url: str, empty_url: str) -> None:
        await half(source_url, empty_url)
        database = Database.open(empty_url)
        with pytest.raises(BadSettings, match="a copy into it is not finished, so run the same copy command again"):
            await migrate(database, empty_url)
        await copy(source_url, empty_url)
        done = await migrate(database, empty_url)
        await database.close()

        assert done == []

    async def test_other_source_is_refused(self, path: Path, source_url: str, empty_url: str) -> None:
        """The message names the original file, which is then accepted."""
        await half(source_url, empty_url)
        other = path.with_name("other.db")
        shutil.copyfile(path, other)
        with closing(sqlite3.connect(other)) as connection, connection:
            connection.execute("DELETE FROM unexported")
        with pytest.raises(BadSettings, match=rf"{path} .* not finished, and {other} is another file"):
            await copy(f"sqlite:///{other}", empty_url)
        await copy(source_url, empty_url)

        assert await rows_of(empty_url) == await rows_of(source_url)

    async def test_moved_source_is_accepted(self, path: Path, source_url: str, empty_url: str) -> None:
        await half(source_url, empty_url)
        elsewhere = path.with_name("elsewhere.db")
        shutil.move(path, elsewhere)
        found = await copy(f"sqlite:///{elsewhere}", empty_url)

        assert found.rows_before > 0

    async def test_changed_source_is_refused(self, path: Path, source_url: str, empty_url: str) -> None:
        """Earlier copied rows may be outdated."""
        await half(source_url, empty_url)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE totals SET last_event_at = 1")

        with pytest.raises(BadSettings, match="has changed since"):
            await copy(source_url, empty_url)

    async def test_copy_of_another_version_is_refused(self, source_url: str, empty_url: str) -> None:
        await half(source_url, empty_url)
        await postgresql.execute(empty_url, "UPDATE copying SET table_name = 'old' WHERE table_name = 'members'")

        with pytest.raises(BadSettings, match="Another version of this program began"):
            await copy(source_url, empty_url)

    async def test_rows_of_another_program_are_detected(self, source_url: str, empty_url: str) -> None:
        """Such rows are detected in any table when the copy is resumed."""
        await half(source_url, empty_url)
        await postgresql.execute(empty_url, "INSERT INTO unexported VALUES ('theirs', 's', 1, 0)")

        with pytest.raises(StoreUnavailable, match=r"table unexported of .* holds 4 rows, but the copy wrote 3"):
            await copy(source_url, empty_url)


class TestMismatch:
    async def test_table_with_a_wrong_count_is_named(self, source_url: str, empty_url: str) -> None:
        """The progress table stays, so no service starts on the database."""
        add = "INSERT INTO unexported VALUES ('theirs', 's', 1, 0)"

        def show(_done: int, _total: int, what: str) -> None:
            if what == "verifying":
                postgresql.apart(postgresql.execute(empty_url, add))

        with pytest.raises(StoreUnavailable, match=r"table unexported of .* holds 4 rows, but the copy wrote 3"):
            await copy(source_url, empty_url, show)

        assert await ask(empty_url, "SELECT to_regclass('copying') IS NOT NULL")

    @pytest.mark.parametrize(
        ("statement", "error"),
        [
            ("UPDATE rejected_events SET body = 'a' || char(0) WHERE id = 17", "CharacterNotInRepertoireError"),
            ("UPDATE rejected_events SET reason = printf('%.*c', 65, 'x') WHERE id = 17", "StringDataRight"),
        ],
    )
    async def test_row_that_postgresql_rejects_is_named(
        self, path: Path, source_url: str, empty_url: str, statement: str, error: str
    ) -> None:
        """The message does not contain values. SQLite accepts text of any length and any character."""
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)

        with pytest.raises(StoreUnavailable, match=rf"row 2 of the table rejected_events \({error}.*order of id"):
            await copy(source_url, empty_url)

    @pytest.mark.parametrize(
        ("statement", "table"),
        [
            ("DELETE FROM members WHERE id = 7", "identities"),
            # A reference that PostgreSQL does not enforce later.
            ("UPDATE journal SET export_id = 77 WHERE export_id IS NOT NULL", "journal"),
        ],
    )
    async def test_broken_references_are_reported(
        self, path: Path, source_url: str, empty_url: str, statement: str, table: str
    ) -> None:
        """SQLite checks references only on demand. The progress table stays."""
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
        with pytest.raises(StoreUnavailable, match=rf"table {table} refer to rows that .* foreign_key_check"):
            await copy(source_url, empty_url)

        assert await ask(empty_url, "SELECT to_regclass('copying') IS NOT NULL")


class TestSource:
    async def test_file_in_use_is_refused(self, source_url: str, empty_url: str) -> None:
        """The target is not changed."""
        held = Database.open(source_url)
        with pytest.raises(BadSettings, match="Another process uses"):
            await copy(source_url, empty_url)
        await held.close()

        assert await ask(empty_url, "SELECT count(*) FROM pg_class WHERE relname = 'exports'") == 0

    @pytest.mark.parametrize(
        ("revision", "words"), [("0001", "of an older version: upgrade it first"), ("9999", "newer version")]
    )
    async def test_file_of_another_version_is_refused(
        self, path: Path, source_url: str, empty_url: str, revision: str, words: str
    ) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))

        with pytest.raises(BadSettings, match=words) as refused:
            await copy(source_url, empty_url)
        assert "DATABASE_URL to" not in str(refused.value)

    async def test_file_without_our_tables_is_refused(self, tmp_path: Path, empty_url: str) -> None:
        """The files are missing, text, empty, or of another program. No file is changed."""
        none, text, shop, empty = (tmp_path / f"{name}.db" for name in ("none", "text", "shop", "empty"))
        text.write_bytes(b"not a database, for sure" * 100)
        empty.touch()
        with closing(sqlite3.connect(shop)) as connection, connection:
            connection.execute("CREATE TABLE orders (id INTEGER)")
        said = []
        for file in (none, text, shop, empty):
            with pytest.raises((BadSettings, UnusableStore)) as refused:
                await copy(f"sqlite:///{file}", empty_url)
            said.append(str(refused.value))

        assert not none.exists()
        assert [re.split(r"[:.] (?=[Cc]orrect|Put)", message.replace(f"{tmp_path}/", ""))[0] for message in said] == [
            "There is no file none.db",
            "text.db can't be read as a database (file is not a database)",
            "shop.db holds the tables of another program, so there is nothing to copy",
            "empty.db holds nothing, so there is nothing to copy",
        ]
        assert all("--from" in message for message in said)

    def test_source_cannot_be_read_before_its_inspection(self, path: Path) -> None:
        with Source(path) as source, pytest.raises(ValueError, match="not inspected"):
            source.rows_after(TABLES[0], None)


class TestTarget:
    async def test_database_with_a_row_is_refused(self, source_url: str, database_url: str) -> None:
        """The message names the table, and nothing is changed."""
        await postgresql.execute(database_url, "INSERT INTO unexported VALUES ('theirs', 's', 1, 0)")
        with pytest.raises(BadSettings, match=r"in use already: its table unexported has rows \(1\)"):
            await copy(source_url, database_url)
        rows = await rows_of(database_url)

        assert {name for name, found in rows.items() if found} - filled_tables() == {"unexported"}
        assert await ask(database_url, "SELECT to_regclass('copying')") is None

    async def test_database_with_a_finished_copy_is_refused(self, source_url: str, empty_url: str) -> None:
        """The message says that nothing may be left to do."""
        await copy(source_url, empty_url)

        with pytest.raises(BadSettings, match="finished before, nothing is left to do"):
            await copy(source_url, empty_url)

    async def test_database_with_a_running_replica_is_refused(self, source_url: str, database_url: str) -> None:
        """The replica need not have written anything yet."""
        async with session(database_url) as replica:
            assert await replica.fetchval(TRY_TO_SHARE_DATABASE)
            with pytest.raises(BadSettings, match="a replica of the service runs on it"):
                await copy(source_url, database_url)
        found = await copy(source_url, database_url)

        assert found.rows_before == 0

    async def test_replica_cannot_start_during_a_copy(self, source_url: str, database_url: str) -> None:
        """Another copy cannot start either."""
        heard: list[object] = []

        def show(_done: int, _total: int, what: str) -> None:
            if what == "memberships":
                thread = Thread(target=lambda: heard.append(asyncio.run(_share(database_url))))
                thread.start()
                thread.join()

        await copy(source_url, database_url, show)

        assert heard == [False]
        assert await _share(database_url)

    async def test_second_copy_waits_briefly_then_is_refused(
        self, source_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.store.moving.target._SESSION_SETTINGS", ("SET lock_timeout = '10ms'",))
        async with session(database_url) as other:
            await other.execute(TRY_TO_SHARE_DATABASE.replace("_shared", ""))
            with pytest.raises(BadSettings, match="or another copy"):
                await copy(source_url, database_url)

    async def test_database_of_another_program_is_refused(self, source_url: str, empty_url: str) -> None:
        await postgresql.execute(empty_url, "CREATE TABLE orders (id integer)")

        with pytest.raises(UnusableStore, match=r"tables of another program\. Name another database in --to"):
            await copy(source_url, empty_url)

    async def test_database_of_a_newer_version_is_refused(self, source_url: str, database_url: str) -> None:
        """A compatible newer version is refused too, because it may need data that this version does not copy."""
        await postgresql.execute(database_url, "UPDATE alembic_version SET version_num = '9999'")

        with pytest.raises(BadSettings, match=r"newer version .* another database in --to"):
            await copy(source_url, database_url)

    async def test_lost_connection_is_reported(self, source_url: str, empty_url: str) -> None:
        """The message says how to resume."""
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )

        def show(_done: int, _total: int, what: str) -> None:
            if what == "memberships":
                postgresql.apart(postgresql.execute(empty_url, end))

        with pytest.raises(StoreUnavailable, match=r"connection to .* was lost .* the same command again"):
            await copy(source_url, empty_url, show)
        await copy(source_url, empty_url)

        assert await rows_of(empty_url) == await rows_of(source_url)


async def _share(url: str) -> object:
    return await ask(url, TRY_TO_SHARE_DATABASE)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("sqlite:///{path}", "sqlite:///other.db", "from an SQLite file to PostgreSQL"),
        ("postgresql://me:{password}@host/a", "postgresql://me:{password}@host/b", "from an SQLite file to PostgreSQL"),
        ("postgresql://me:{password}@host/a", "sqlite:///{path}", "from an SQLite file to PostgreSQL"),
        ("sqlite://", "postgresql://me:{password}@host/b", "--from names no file"),
        ("sqlite:///{path}", "mysql://me:{password}@host/b", "--to starts with 'mysql'"),
        ("sqlite:///{path}", "{password}", "--to is not the URL"),
        ("sqlite:///{path}", "postgresql://me:{password}@127.0.0.1:1/b", "Nothing listens at 127.0.0.1:1"),
    ],
)
async def test_wrong_urls_are_refused(path: Path, source: str, target: str, words: str) -> None:
    """The message does not quote the URL, which may contain a password."""
    source, target = (url.format(path=path, password=PASSWORD) for url in (source, target))
    with pytest.raises((BadSettings, UnusableStore), match=words) as refused:
        await copy(source, target)

    assert PASSWORD not in str(refused.value)


def test_copied_rows_are_summed_up(tmp_path: Path) -> None:
    assert Copied({"a": 1, "b": 2}, 0, 1.0, tmp_path).rows == 3
