"""Transactions on SQLite: order, cancellation, readers beside the writer, and a locked file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database import engine, sqlite
from app.store.database.engine import RECENT_SECONDS, Database
from app.store.database.sqlite import READERS
from app.store.database.timeouts import WAIT_SECONDS
from app.store.schema import unexported
from tests.store.writing import add, adding, count

PATIENCE_SECONDS = 60
BUSY_SECONDS = 0.05


class Held:
    """Work that occupies its thread until the test releases it."""

    def __init__(self) -> None:
        self._begun, self._released = threading.Event(), threading.Event()

    def __call__(self, _: Connection) -> None:
        self._begun.set()
        assert self._released.wait(PATIENCE_SECONDS)

    def release(self) -> None:
        self._released.set()

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, PATIENCE_SECONDS)


async def asked(work: asyncio.Task[object]) -> None:
    """Let a new task queue its transaction."""
    await asyncio.sleep(0)
    assert not work.done()


class Time:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    for module in (engine, sqlite):
        monkeypatch.setattr(module, "time", time)
    return time


@pytest.fixture
def kind() -> str:
    return "sqlite"


def writer_of(database: Database) -> sqlite.SqliteTransactions:
    assert isinstance(database._transactions, sqlite.SqliteTransactions)
    return database._transactions


class TestOrder:
    async def test_transactions_run_in_the_order_of_the_calls(self, database: Database) -> None:
        """Each transaction reads the commit of the previous one."""
        await database.write(partial(add, name="a"))
        steps: list[tuple[int, str]] = []
        threads: set[int] = set()

        def add_one(connection: Connection, *, number: int) -> None:
            steps.append((number, "begins"))
            threads.add(threading.get_ident())
            events = connection.execute(text("select events from unexported")).scalar_one()
            connection.execute(text("update unexported set events = :events"), {"events": events + 1})
            steps.append((number, "ends"))

        await asyncio.gather(*(database.write(partial(add_one, number=n)) for n in range(60)))
        (row,) = await database.rows(select(unexported.c.events))

        assert steps == [(number, what) for number in range(60) for what in ("begins", "ends")]
        assert len(threads - {threading.get_ident()}) == len(threads) == 1
        assert row.events == 61

    async def test_transaction_does_not_block_the_event_loop(self, database: Database) -> None:
        held = Held()
        under_way = asyncio.create_task(database.write(held))
        await held.begun()
        went_on = not under_way.done()
        held.release()
        await under_way

        assert went_on

    @pytest.mark.parametrize(("what", "threads"), [("write", 1), ("read", READERS)])
    async def test_transaction_that_waited_too_long_fails_and_does_not_begin(
        self, database: Database, time: Time, what: str, threads: int
    ) -> None:
        """A later transaction with a shorter wait runs."""
        run = {"write": database.write, "read": database.read}[what]
        done: list[str] = []
        held = [Held() for _ in range(threads)]
        first = [asyncio.create_task(run(work)) for work in held]
        for work in held:
            await work.begun()
        late = asyncio.create_task(run(lambda _: done.append("late")))
        await asked(late)
        time.now += 1
        in_time = asyncio.create_task(run(lambda _: done.append("in time")))
        await asked(in_time)
        time.now += WAIT_SECONDS
        for work in held:
            work.release()
        with pytest.raises(StoreUnavailable, match="waited too long"):
            await late
        await asyncio.gather(in_time, *first)

        assert done == ["in time"]


class TestHalfway:
    @pytest.mark.parametrize("mistake", ["ours", "refused"])
    async def test_failed_transaction_is_rolled_back(self, database: Database, mistake: str) -> None:
        """The caller gets the error, and the next writer finds no lock."""

        def fail(connection: Connection) -> None:
            add(connection, name="a")
            if mistake == "ours":
                raise ValueError("ours")
            add(connection, name="a")

        failed = asyncio.create_task(database.write(fail))
        behind = asyncio.create_task(database.write(count))
        with pytest.raises((ValueError, IntegrityError), match=r"ours|UNIQUE"):
            await failed

        assert await behind == 0
        assert await database.read(count) == 0

    @pytest.mark.parametrize("written", [0, 1, 2])
    async def test_transaction_outlives_its_cancelled_caller(self, database: Database, written: int) -> None:
        """The whole transaction is committed, and the next one runs."""
        held = Held()
        caller = asyncio.create_task(database.write(adding(held, after=written)))
        await held.begun()
        behind = asyncio.create_task(database.write(count))
        caller.cancel()
        await asyncio.wait({caller})
        held.release()

        assert caller.cancelled()
        assert await behind == 3

    async def test_call_cancelled_while_queued_does_not_run(self, database: Database) -> None:
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.begun()
        caller = asyncio.create_task(database.write(partial(add, name="a")))
        behind = asyncio.create_task(database.write(count))
        await asked(behind)
        caller.cancel()
        await asyncio.wait({caller})
        held.release()
        await first

        assert caller.cancelled()
        assert await behind == 0

    async def test_close_waits_for_open_and_queued_transactions(
        self, database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file stays locked until then."""
        held, shutdown = Held(), writer_of(database)._writer.shutdown

        def release_and_shut_down(*args: bool, **kwargs: bool) -> None:
            held.release()
            shutdown(*args, **kwargs)

        def write(connection: Connection) -> None:
            held(connection)
            add(connection, name="a")
            with pytest.raises(BadSettings, match="Another process uses"):
                Database.open(database_url)

        monkeypatch.setattr(writer_of(database)._writer, "shutdown", release_and_shut_down)
        under_way = asyncio.create_task(database.write(write))
        await held.begun()
        behind = asyncio.create_task(database.write(partial(add, name="b")))
        await asked(behind)
        await database.close()
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            names = connection.execute("select audience_id from unexported").fetchall()

        await asyncio.gather(under_way, behind)
        assert names == [("a",), ("b",)]


class TestReaders:
    async def test_reader_sees_one_snapshot(self, database: Database) -> None:
        """The next reader sees the commits made meanwhile."""
        loop = asyncio.get_running_loop()

        def read_twice(connection: Connection) -> tuple[int, int]:
            before = count(connection)
            asyncio.run_coroutine_threadsafe(database.write(partial(add, name="a")), loop).result(PATIENCE_SECONDS)
            return before, count(connection)

        before, meanwhile = await database.read(read_twice)
        after = await database.read(count)

        assert (before, meanwhile, after) == (0, 0, 1)

    async def test_readers_run_beside_a_writer(self, database: Database) -> None:
        loop = asyncio.get_running_loop()

        def write(connection: Connection) -> int:
            add(connection, name="a")
            return asyncio.run_coroutine_threadsafe(database.read(count), loop).result(PATIENCE_SECONDS)

        assert await database.write(write) == 0

    async def test_readers_run_side_by_side(self, database: Database) -> None:
        """There are as many readers as threads."""
        together = threading.Barrier(READERS)

        def meet(connection: Connection) -> int:
            together.wait(PATIENCE_SECONDS)
            return count(connection)

        assert await asyncio.gather(*(database.read(meet) for _ in range(READERS))) == [0] * READERS

    @pytest.mark.parametrize("statement", ["delete from unexported", "create table more (id integer)"])
    async def test_reader_can_not_write(self, database: Database, statement: str) -> None:
        with pytest.raises(StoreUnavailable):
            await database.read(lambda connection: connection.execute(text(statement)))


class TestLockedFile:
    @pytest.fixture
    async def other(self, database: Database, tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
        """A connection of another process that holds the write lock longer than our writer waits."""
        impatient = f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}"
        await database.write(lambda connection: connection.exec_driver_sql(impatient))
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield other

    async def test_is_unavailable_until_it_is_free_again(self, database: Database, other: sqlite3.Connection) -> None:
        """Readers still run, and other writers fail too."""
        began_at = monotonic()
        with pytest.raises(StoreUnavailable, match=r"could not be used \(OperationalError\)"):
            await database.write(partial(add, name="a"))
        waited = monotonic() - began_at
        seen = await database.read(count)
        refused = await asyncio.gather(
            *(database.write(partial(add, name=name)) for name in ("b", "c")), return_exceptions=True
        )
        other.execute("ROLLBACK")
        await database.write(partial(add, name="d"))

        assert waited >= BUSY_SECONDS
        assert seen == 0
        assert [type(error) for error in refused] == [StoreUnavailable, StoreUnavailable]
        assert await database.read(count) == 1

    async def test_writer_waits_for_a_short_transaction(self, database: Database, tmp_path: Path) -> None:
        asked_for, loop = asyncio.Event(), asyncio.get_running_loop()
        writer = writer_of(database)._write
        event.listen(writer, "before_cursor_execute", lambda *_: loop.call_soon_threadsafe(asked_for.set))
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("insert into unexported values ('theirs', 'slug', 1, 0)")
            ours = asyncio.create_task(database.write(partial(add, name="ours")))
            await asked_for.wait()
            other.execute("COMMIT")
        await ours

        assert await database.read(count) == 2

    async def test_transaction_takes_the_write_lock_before_it_reads(self, database: Database, tmp_path: Path) -> None:
        """With a deferred BEGIN, another process could write in between, and our later write would fail at once."""
        refused: list[str] = []

        def read_then_write(connection: Connection) -> None:
            count(connection)
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None, timeout=0)) as other:
                try:
                    other.execute("insert into unexported values ('theirs', 'slug', 1, 0)")
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
            add(connection, name="ours")

        await database.write(read_then_write)

        assert refused == ["database is locked"]
        assert await database.read(count) == 1

    async def test_ping_fails_until_a_trial_write_works(
        self, database: Database, other: sqlite3.Connection, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No trial is made in the first five seconds after a failed write. Then all callers share a trial."""
        # A ping must also wait for the end of the trial on a slow machine.
        monkeypatch.setattr(engine, "TRIAL_SECONDS", PATIENCE_SECONDS)
        begun: list[str] = []
        await database.ping()
        with pytest.raises(StoreUnavailable):
            await database.write(partial(add, name="a"))
        event.listen(writer_of(database)._write, "before_cursor_execute", lambda *call: begun.append(call[2]))
        at_once = await pings(database)
        tried_at_once = len(begun)
        time.now += RECENT_SECONDS
        locked = await pings(database)
        tried_locked = len(begun)
        other.execute("ROLLBACK")
        recent = await pings(database)
        time.now += RECENT_SECONDS
        free = await pings(database)

        assert [at_once, locked, recent, free] == [[False] * 3, [False] * 3, [False] * 3, [True] * 3]
        assert (tried_at_once, tried_locked) == (0, 1)
        assert begun == ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "PRAGMA user_version=0"]


async def pings(database: Database) -> list[bool]:
    """Return whether each of three simultaneous pings succeeds."""
    results = await asyncio.gather(*(database.ping() for _ in range(3)), return_exceptions=True)
    assert all(result is None or isinstance(result, StoreUnavailable) for result in results)
    return [result is None for result in results]
