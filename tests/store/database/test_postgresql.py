"""Transactions on PostgreSQL: connections, locks, cancellation, snapshots, lost servers and replicas."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.pool import QueuePool

from app.domain.change import MembershipChange
from app.domain.counts import Tally
from app.domain.errors import StoreUnavailable
from app.domain.resolve import Resolver
from app.store.database import clock as clock_module
from app.store.database import postgresql as pool
from app.store.database.clock import wall_clock
from app.store.database.dialect import lock_table
from app.store.database.engine import Database
from app.store.database.postgresql import CONNECTIONS
from app.store.database.timeouts import WAIT_SECONDS
from app.store.exports.exports import Exports
from app.store.members import claims as queue
from app.store.members.members import Members
from app.store.members.rows import save_tallies
from app.store.members.webhooks import Webhook, receive
from app.store.schema import exports as exports_table
from app.store.schema import minute_counts, minute_latencies, totals, unexported
from tests import postgresql
from tests.factories import ACCOUNT, ADA, GRACE, HOUR, MINUTE, NOON, Clock, enter, exit_, room, settlement
from tests.places import opened
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up
from tests.store.recording import engines, meanwhile
from tests.store.writing import add, adding, count

PATIENCE_SECONDS = 60
BRIEFLY_SECONDS = 0.1


@pytest.fixture
def kind() -> str:
    return "postgresql"


@pytest.fixture
async def replica(database_url: str) -> AsyncIterator[Database]:
    """Another replica on the same database."""
    async with opened(database_url) as database:
        yield database


@pytest.fixture
def own_server() -> Iterator[postgresql.Server]:
    """Start a server that the test may kill."""
    with postgresql.server() as server:
        yield server


def setting(connection: Connection, *, name: str) -> object:
    return connection.exec_driver_sql(f"SHOW {name}").scalar()


class Held:
    """Work that keeps its transaction open until the test releases it."""

    def __init__(self) -> None:
        self._begun, self._release = asyncio.Event(), asyncio.Event()

    def __call__(self, _: Connection) -> None:
        self._begun.set()
        meanwhile(asyncio.get_running_loop(), asyncio.wait_for(self._release.wait(), PATIENCE_SECONDS))

    def release(self) -> None:
        self._release.set()

    async def begun(self) -> None:
        await asyncio.wait_for(self._begun.wait(), PATIENCE_SECONDS)


async def until_a_lock_is_awaited(url: str) -> None:
    """Wait until any session of the database waits for a lock."""
    waiting = text(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    async with opened(url) as database, asyncio.timeout(PATIENCE_SECONDS):
        while not await database.read(lambda connection: connection.scalar(waiting)):  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.01)


class TestConnections:
    @pytest.mark.parametrize(("default", "used"), [("off", "on"), ("on", "on"), ("local", "local")])
    async def test_commits_are_synced_for_any_default_of_the_database(
        self, database_url: str, default: str, used: str
    ) -> None:
        """Commits reach at least the server's own disk. `local` does not wait for standby servers."""
        name = database_url.rpartition("/")[2]
        await postgresql.execute(database_url, f"ALTER DATABASE {name} SET synchronous_commit = {default}")
        async with opened(database_url) as database:
            show = partial(setting, name="synchronous_commit")
            asked = [run(show) for run in (database.write, database.read, database.change) for _ in range(3)]
            found = await asyncio.gather(*asked)

        assert set(found) == {used}

    async def test_connections_have_lock_and_idle_timeouts(self, database: Database) -> None:
        """Lytics waits longer than ten seconds for an answer."""

        def show(connection: Connection) -> list[object]:
            names = ("lock_timeout", "idle_in_transaction_session_timeout", "application_name")
            return [setting(connection, name=name) for name in names]

        assert await database.write(show) == await database.read(show) == ["10s", "30s", "lytics-sailthru"]

    async def test_transactions_beyond_the_pool_wait_then_fail(self, database: Database) -> None:
        """A transaction that waits too long for a connection does not begin."""
        (engine,) = engines(database)
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.timeout() == WAIT_SECONDS
        held = [Held() for _ in range(CONNECTIONS)]
        first = [asyncio.create_task(database.write(work)) for work in held]
        for work in held:
            await work.begun()
        # Shorten the timeout only now, because connecting may take long.
        pool._timeout = BRIEFLY_SECONDS
        with pytest.raises(StoreUnavailable, match="no free connection"):
            await database.write(partial(add, name="late"))
        pool._timeout = PATIENCE_SECONDS
        for work in held:
            work.release()
        await asyncio.gather(*first)
        await asyncio.gather(*(database.write(partial(add, name=f"{n}")) for n in range(3 * CONNECTIONS)))

        assert await database.read(count) == 3 * CONNECTIONS

    @pytest.mark.parametrize("wrong", ["port", "database", "user"])
    async def test_refused_connection_is_unavailable(self, database_url: str, wrong: str) -> None:
        """The causes are a closed port, an unknown database and an unknown user. The message does not quote the URL."""
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
        before, _, address = database_url.partition("//")[2].partition("@")
        host, _, name = address.partition("/")
        url = {
            "port": f"postgresql://{before}@127.0.0.1:{port}/{name}",
            "database": f"postgresql://{before}@{host}/nowhere",
            "user": f"postgresql://unknown:sesame@{host}/{name}",
        }[wrong]
        async with opened(url) as database:
            for use in (database.write, database.read, database.change):
                with pytest.raises(StoreUnavailable, match="could not be used") as refused:
                    await use(count)

                assert "sesame" not in str(refused.value)
            with pytest.raises(StoreUnavailable):
                await database.ping()

    async def test_clock_is_the_servers(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """This holds from the first use on, even if the machine's clock is hours off."""
        monkeypatch.setattr(clock_module, "wall_clock", lambda: wall_clock() + 5 * HOUR)
        before = database.clock()
        await database.ping()
        shown = await database.read(lambda connection: connection.scalar(text("select clock_timestamp()")))
        after = database.clock()

        assert before - shown > 4 * HOUR
        assert abs(after - shown) < MINUTE


class TestSideBySide:
    async def test_transactions_run_side_by_side(self, database: Database) -> None:
        """There are as many transactions as connections."""
        held = [Held() for _ in range(CONNECTIONS)]
        ways = [database.write, database.read] * (CONNECTIONS // 2)
        under_way = [asyncio.create_task(run(work)) for work, run in zip(held, ways, strict=True)]
        for work in held:
            await work.begun()
        for work in held:
            work.release()

        assert await asyncio.gather(*under_way) == [None] * CONNECTIONS

    async def test_transaction_waits_for_a_locked_row(self, database: Database, database_url: str) -> None:
        """After the wait it sees the other transaction's commit."""
        held = Held()

        def write(connection: Connection) -> None:
            add(connection, name="a")
            held(connection)

        def write_too(connection: Connection) -> int:
            connection.execute(text("insert into unexported values ('a', 's', 1, 0) on conflict do nothing"))
            return count(connection)

        first = asyncio.create_task(database.write(write))
        await held.begun()
        second = asyncio.create_task(database.write(write_too))
        await until_a_lock_is_awaited(database_url)
        held.release()
        await first

        assert await second == 1

    async def test_totals_are_locked_before_minute_counts(
        self, database: Database, database_url: str, replica: Database, running: Running
    ) -> None:
        """Otherwise two transactions for one export could deadlock."""
        export = await running("A")
        counted = {export.id: Tally(accepted=1, delivered=1, confirmed_after=Counter({0: 1}))}
        await database.write(lambda connection: save_tallies(connection, counted, NOON))
        held = Held()

        def hold_minute(connection: Connection) -> None:
            connection.execute(select(minute_counts).with_for_update())
            held(connection)

        first = asyncio.create_task(database.write(hold_minute))
        await held.begun()
        second = asyncio.create_task(database.write(lambda connection: save_tallies(connection, counted, NOON)))
        await until_a_lock_is_awaited(database_url)
        free = select(totals).with_for_update(skip_locked=True)
        found = await replica.write(lambda connection: connection.execute(free).all())
        held.release()
        await asyncio.gather(first, second)

        assert found == []
        assert [tuple(row) for row in await database.rows(select(totals.c.accepted, totals.c.delivered))] == [(2, 2)]
        assert await database.rows(select(minute_counts.c.accepted)) == [(2,)]
        assert await database.rows(select(minute_latencies.c.confirmed)) == [(2,)]

    async def test_long_wait_for_a_lock_is_unavailable(self, database_url: str) -> None:
        """The transaction is rolled back, and later writes work."""
        async with opened(database_url) as database:
            held = Held()

            def write(connection: Connection) -> None:
                add(connection, name="a")
                held(connection)

            def write_too(connection: Connection) -> None:
                # Like the setting of the service, but shorter.
                connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
                add(connection, name="b")
                add(connection, name="a")

            first = asyncio.create_task(database.write(write))
            await held.begun()
            with pytest.raises(StoreUnavailable, match="could not be used"):
                await database.write(write_too)
            held.release()
            await first
            await database.write(partial(add, name="c"))

            assert await database.rows(select(unexported.c.audience_id).order_by(unexported.c.audience_id)) == [
                ("a",),
                ("c",),
            ]

    async def test_server_ends_one_of_two_deadlocked_transactions(self, database: Database, replica: Database) -> None:
        """The ended transaction fails as unavailable, and the other one commits."""
        both = asyncio.Barrier(2)

        def write(connection: Connection, names: str) -> None:
            add(connection, name=names[0])
            meanwhile(asyncio.get_running_loop(), asyncio.wait_for(both.wait(), PATIENCE_SECONDS))
            add(connection, name=names[1])

        results = await asyncio.gather(
            database.write(partial(write, names="ab")),
            replica.write(partial(write, names="ba")),
            return_exceptions=True,
        )

        assert sorted(type(result).__name__ for result in results) == ["NoneType", "StoreUnavailable"]
        assert await database.read(count) == 2

    async def test_table_lock_is_shared_or_exclusive(
        self, database: Database, replica: Database, database_url: str
    ) -> None:
        """Shared holders run side by side; an exclusive holder waits for them, and they wait for it."""
        order: list[str] = []

        def work(connection: Connection, what: str, until: Callable[[Connection], None], *, is_exclusive: bool) -> None:
            lock_table(connection, exports_table, is_exclusive=is_exclusive)
            order.append(what)
            until(connection)

        shared = [Held(), Held()]
        under_way = [
            asyncio.create_task(shared_database.write(partial(work, what="shared", until=held, is_exclusive=False)))
            for shared_database, held in zip((database, replica), shared, strict=True)
        ]
        for held in shared:
            await held.begun()
        alone = Held()
        exclusive = asyncio.create_task(database.write(partial(work, what="alone", until=alone, is_exclusive=True)))
        await until_a_lock_is_awaited(database_url)
        # The lock of another table is free.
        await replica.write(lambda connection: lock_table(connection, minute_counts, is_exclusive=True))
        for held in shared:
            held.release()
        await alone.begun()
        last = asyncio.create_task(
            replica.write(partial(work, what="shared again", until=lambda _: None, is_exclusive=False))
        )
        await until_a_lock_is_awaited(database_url)
        alone.release()
        await asyncio.gather(*under_way, exclusive, last)

        assert order == ["shared", "shared", "alone", "shared again"]


class TestHalfway:
    @pytest.mark.parametrize("mistake", ["ours", "refused"])
    async def test_failed_transaction_is_rolled_back(self, database: Database, mistake: str) -> None:
        """The caller gets the error, and the connection returns to the pool."""

        def fail(connection: Connection) -> None:
            add(connection, name="a")
            if mistake == "ours":
                raise ValueError("ours")
            add(connection, name="a")

        for _ in range(CONNECTIONS + 1):
            with pytest.raises((ValueError, IntegrityError), match=r"ours|unique"):
                await database.write(fail)

        assert await database.write(count) == await database.read(count) == 0

    @pytest.mark.parametrize("written", [0, 1, 2])
    async def test_transaction_outlives_its_caller(self, database: Database, replica: Database, written: int) -> None:
        """The whole transaction is committed."""
        held = Held()
        caller = asyncio.create_task(database.write(adding(held, after=written)))
        await held.begun()
        caller.cancel()
        await asyncio.wait({caller})
        before = await replica.read(count)
        held.release()
        await database.close()

        assert caller.cancelled()
        assert (before, await replica.read(count)) == (0, 3)

    async def test_close_waits_for_open_transactions(self, database: Database, replica: Database) -> None:
        """This includes a transaction without a caller. New transactions are refused."""
        held = [Held(), Held()]

        def write(connection: Connection, number: int) -> None:
            held[number](connection)
            add(connection, name=f"{number}")

        with_caller, without = (asyncio.create_task(database.write(partial(write, number=n))) for n in range(2))
        for work in held:
            await work.begun()
        without.cancel()
        closing_it = asyncio.create_task(database.close())
        await asyncio.wait({without})
        with pytest.raises(StoreUnavailable, match="closed"):
            await database.write(partial(add, name="late"))
        is_waiting = not closing_it.done()
        for work in held:
            work.release()
        await closing_it

        assert is_waiting
        assert with_caller.done()
        assert await replica.read(count) == 2


class TestReaders:
    async def test_reader_sees_one_snapshot(self, database: Database) -> None:
        """The next reader sees the commits made meanwhile."""

        def read_twice(connection: Connection) -> tuple[int, int]:
            before = count(connection)
            meanwhile(asyncio.get_running_loop(), database.write(partial(add, name="a")))
            return before, count(connection)

        before, after = await database.read(read_twice)

        assert (before, after, await database.read(count)) == (0, 0, 1)

    async def test_readers_run_beside_a_writer(self, database: Database) -> None:

        def write(connection: Connection) -> int:
            add(connection, name="a")
            return meanwhile(asyncio.get_running_loop(), database.read(count))

        assert await database.write(write) == 0

    @pytest.mark.parametrize(
        "statement",
        ["delete from unexported", "create table more (id integer)", "select * from unexported for update"],
    )
    async def test_reader_can_not_write(self, database: Database, statement: str) -> None:
        """It cannot lock rows either. The next transaction of its connection can do both."""
        with pytest.raises(StoreUnavailable):
            await database.read(lambda connection: connection.execute(text(statement)))
        await asyncio.gather(*(database.write(partial(add, name=f"{n}")) for n in range(CONNECTIONS)))

        assert await database.read(count) == CONNECTIONS


class TestRefusedStatements:
    @pytest.mark.parametrize(
        ("statement", "error"),
        [
            ("insert into unexported values (null, 's', 1, 0)", IntegrityError),
            ("insert into totals (export_id) values (7)", IntegrityError),
            ("update exports set state = 'asleep'", IntegrityError),
            ("select * from nowhere", ProgrammingError),
            ("select wrong from exports", ProgrammingError),
            ("selct", ProgrammingError),
            ("select 1 / 0", DBAPIError),
            ("select 9223372036854775807 + 1", DBAPIError),
            ("select (select id from generate_series(1, 2) as id)", DBAPIError),
        ],
    )
    async def test_bug_is_not_reported_as_unavailable(
        self, database: Database, exports: Exports, statement: str, error: type[Exception]
    ) -> None:
        """The database still answers."""
        await exports.start("A", audience_slug="", account=ACCOUNT)
        with pytest.raises(error):
            await database.write(lambda connection: connection.execute(text(statement)))
        await database.ping()

    @pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 300])
    async def test_text_that_can_not_be_stored(self, database: Database, value: str) -> None:
        """The text has a zero byte or half a surrogate pair, or is too long for the column."""
        with pytest.raises((DBAPIError, UnicodeError)):
            await database.write(partial(add, name=value))
        await database.ping()

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "1"])
    async def test_number_that_can_not_be_stored(self, database: Database, value: object) -> None:
        row = {"audience_id": "a", "audience_slug": "", "events": value, "last_event_at": wall_clock()}
        with pytest.raises(DBAPIError):
            await database.write(lambda connection: connection.execute(unexported.insert(), row))
        await database.ping()


class TestLostServer:
    async def test_connections_cut_while_idle_are_replaced(
        self, database: Database, replica: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Callers see no error: the clock is read first and detects the cut connection."""
        await asyncio.gather(*(database.read(lambda c: c.exec_driver_sql("select pg_sleep(0.05)")) for _ in range(5)))
        await cut_off(replica)
        monkeypatch.setattr(clock_module, "ASK_EVERY_SECONDS", 0)
        await database.write(partial(add, name="a"))

        assert await asyncio.gather(*(database.read(count) for _ in range(5))) == [1] * 5

    async def test_connection_cut_during_a_transaction(self, database: Database, replica: Database) -> None:
        """The transaction is rolled back; the next one gets another connection."""

        def write(connection: Connection) -> None:
            add(connection, name="a")
            meanwhile(asyncio.get_running_loop(), cut_off(replica))
            add(connection, name="b")

        with pytest.raises(StoreUnavailable, match="could not be used"):
            await database.write(write)
        await database.write(partial(add, name="c"))

        assert await database.read(count) == 1

    async def test_statement_without_answer_times_out(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Changes of tables have no time limit."""
        monkeypatch.setattr(pool, "LONGEST_STATEMENT_SECONDS", 1)

        def write(connection: Connection) -> None:
            add(connection, name="a")
            connection.execute(text("select pg_sleep(2)"))

        async with opened(database_url) as database:
            with pytest.raises(StoreUnavailable, match="could not be used"):
                await database.write(write)
            before = await database.read(count)
            await database.change(write)

            assert before == 0
            assert await database.read(count) == 1

    async def test_killed_server_that_comes_back(self, own_server: postgresql.Server) -> None:
        """Commits are preserved, and the database reconnects automatically."""
        async with opened(own_server.url) as database:
            await database.write(unexported.create)
            await database.write(partial(add, name="a"))
            own_server.kill()
            uses = (database.write(partial(add, name="b")), database.read(count), database.ping())
            refused = await asyncio.gather(*uses, return_exceptions=True)
            await asyncio.to_thread(own_server.start)
            await database.write(partial(add, name="c"))

            assert [type(result) for result in refused] == [StoreUnavailable] * 3
            assert await database.read(count) == 2


async def cut_off(replica: Database) -> None:
    """End all connections to the database but this one."""
    others = text(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await replica.write(lambda connection: connection.execute(others).all())


async def test_updates_of_a_claim_stay_on_their_page(
    database: Database, members: Members, running: Running, clock: Clock
) -> None:
    """Such updates change no index."""
    await running("A")
    await members.apply([enter(f"p{n}@example.com", lytics_id=str(n)) for n in range(400)])
    in_place = text("select n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'memberships'")

    def take(connection: Connection) -> tuple[int, int]:
        claims = queue.take(connection, ACCOUNT, capacity=room(400), now=clock(), lease=1, until=clock() + MINUTE)
        return len(claims), connection.scalar(in_place) or 0

    claimed, without_index = await database.write(take)

    assert claimed == 400
    assert without_index > claimed / 4


class TestReplicas:
    async def test_concurrent_changes_add_up(
        self, database: Database, replica: Database, exports: Exports, running: Running, clock: Clock
    ) -> None:
        """The changes lock the same members in different orders. There is no deadlock, and each change counts."""
        await running("A")
        await running("B")
        stores = [Members(shared, clock) for shared in (database, replica)]
        people = [f"p{n}@example.com" for n in range(40)]

        def some(number: int) -> list[MembershipChange]:
            kinds = (enter, exit_)
            return [
                kinds[(number + n) % 2](address, at=number, lytics_id=f"u-{n}", export_id=1 + (number + n) % 2)
                for n, address in enumerate(people[number % 7 :: 1 + number % 3])
            ][:: -1 if number % 2 else 1]

        # Side by side, not all in one group commit.
        async def apply_all(store: Members, first: int) -> None:
            for number in range(first, 60, 2):
                await store.apply(some(number))

        await asyncio.gather(*(apply_all(store, first) for first, store in enumerate(stores)), apply_all(stores[0], 1))
        await assert_all_adds_up(database, exports)

    @pytest.mark.parametrize("address", [ADA, GRACE])
    @pytest.mark.parametrize(("second", "verdict", "on_list"), [(1, "stale", ADA), (3, "accepted", GRACE)])
    async def test_two_replicas_insert_the_same_member(
        self,
        *,
        database: Database,
        replica: Database,
        exports: Exports,
        running: Running,
        clock: Clock,
        database_url: str,
        address: str,
        second: int,
        verdict: str,
        on_list: str,
    ) -> None:
        """Neither sees the other's row. The second replica repeats its work, and the newest change wins."""
        await running("A")
        held = Held()

        def keep_and_hold(connection: Connection) -> None:
            receive(connection, [Webhook(changes=[enter(ADA, at=2)])], clock(), Resolver(), None)
            held(connection)

        first = asyncio.create_task(replica.write(keep_and_hold))
        await held.begun()
        members = Members(database, clock)
        late = asyncio.create_task(members.apply([enter(address, at=second)]))
        await until_a_lock_is_awaited(database_url)
        held.release()
        await first
        kept = await late
        await assert_all_adds_up(database, exports)
        reports = [*await members.find_by_address(ADA), *await members.find_by_address(GRACE)]

        assert kept.verdicts == (verdict,)
        assert [r.membership.address for r in reports if r.membership.desired] == [on_list if address == GRACE else ADA]

    async def test_member_is_claimed_once(
        self, database: Database, replica: Database, exports: Exports, running: Running, clock: Clock
    ) -> None:
        """The counts add up after many concurrent claims."""
        await running("A")
        stores = [Members(shared, clock) for shared in (database, replica)]
        await stores[0].apply([enter(f"p{n}@example.com", lytics_id=str(n)) for n in range(100)])
        claimed: list[str] = []

        async def work(store: Members) -> None:
            while claims := await store.claim(ACCOUNT, capacity=room(7), lease_for=MINUTE):
                claimed.extend(claim.address for claim in claims)
                settled = await asyncio.gather(*(store.settle(settlement(claim)) for claim in claims))
                assert all(settled_claim.is_ours for settled_claim in settled)

        await asyncio.gather(*(work(store) for store in stores * 3))
        await assert_all_adds_up(database, exports)
        (report,) = await exports.reports(1)

        assert sorted(claimed) == sorted(f"p{n}@example.com" for n in range(100))
        assert report.counts["delivered"] == 100
