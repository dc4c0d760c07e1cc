"""The worker: claims, concurrency, waits and shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from app.alarms import Alarms
from app.delivery.circuit_breaker import IN_FLIGHT_FACTOR, CircuitBreaker
from app.delivery.deliver import Delivered, Deliverer
from app.delivery.loop import AccountLoop
from app.delivery.worker import Worker
from app.domain.account import FIRST_PROBE_WAIT, BreakerState, Capacity, OpenReason, merged
from app.domain.call import Claim
from app.domain.destination import Throttle
from app.domain.errors import CallFailed, CredentialsRefused, OutcomeUnknown, StoreUnavailable
from app.signals import EXPORTS_CHANGED, Signals, members_due
from tests.delivery.unused import UnusedQueue
from tests.factories import ACCOUNT, MINUTE, NOON, SECOND, Clock, claim
from tests.service import until
from tests.virtual_time import LoopClock, run


class World(UnusedQueue, Deliverer):
    """A fake queue and deliverer. The test controls when and how calls end."""

    lease_for, timeout = timedelta(seconds=32), timedelta(seconds=15)

    def __init__(self, clock: Clock, *, due: int = 0) -> None:
        self.clock = clock
        self.due = [claim(member_id=number) for number in range(due)]
        self.claims: list[int] = []
        self.claim_errors: list[Exception] = []
        self.due_at: datetime | None = None
        self.delivered: list[int] = []
        self.errors: list[Exception] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.in_flight = self.most_in_flight = 0
        self.naming_rounds = 0
        self.naming: list[Exception | bool] = []
        self.unfinished_exports: list[int] = []
        self.has_more: list[bool] = []
        self.carried_out: list[int] = []
        self.flushed = 0
        self.stored = BreakerState()
        self.account: CircuitBreaker | None = None
        self.probe_is_reserved = False
        self.probe_requests = 0

    def state(self) -> str | None:
        assert self.account is not None
        return None if self.account.state.open_reason is None else self.account.state.open_reason.value

    async def load(self, account: str) -> BreakerState:
        return self.stored

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        stored, self.stored = self.stored, merged(self.stored, before, after, now)
        return stored, self.stored

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        self.probe_requests += 1
        if self.probe_is_reserved or not self.stored.is_open or self.stored.next_probe_at(now) > now:
            return None
        self.stored = replace(self.stored, probe_at=until)
        return self.stored

    async def claim(self, account: str, *, capacity: Capacity, lease_for: timedelta) -> list[Claim]:
        assert (account, lease_for) == (ACCOUNT, self.lease_for)
        self.claims.append(capacity.calls)
        if self.claim_errors:
            raise self.claim_errors.pop(0)
        taken, self.due = self.due[: capacity.calls], self.due[capacity.calls :]
        return taken

    async def next_due_at(self, account: str) -> datetime | None:
        return self.due_at

    async def next_batch(self, export_id: int) -> bool:
        self.carried_out.append(export_id)
        return self.has_more.pop(0) if self.has_more else False

    async def flush(self) -> None:
        self.flushed += 1

    async def unfinished(self) -> list[int]:
        unfinished, self.unfinished_exports = self.unfinished_exports, []
        return unfinished

    async def name_exports(self) -> bool:
        self.naming_rounds += 1
        result = self.naming.pop(0) if self.naming else False
        if isinstance(result, Exception):
            raise result
        return result

    async def deliver(self, held: Claim, *, is_probe: bool = False) -> Delivered:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.may_answer.wait()
        finally:
            self.in_flight -= 1
        error = self.errors.pop(0) if self.errors else None
        if self.account is not None and (error is None or isinstance(error, CallFailed)):
            await self.account.judge(held.member_id, error, is_probe=is_probe)
        if isinstance(error, CallFailed):
            self.due.append(held)
            return Delivered(error, self.clock(), may_still_apply=isinstance(error, OutcomeUnknown))
        if error is not None:
            raise error
        self.delivered.append(held.member_id)
        return Delivered(None, None)


class FakeThrottle(Throttle):
    """A rate limiter with room for `left` calls."""

    def __init__(self, clock: Clock) -> None:
        self.left = 0
        self.requests = 0
        self.prepared: list[tuple[int, bool]] = []
        self._clock = clock

    async def prepare(self, calls: int, *, backfill: bool) -> None:
        self.prepared.append((calls, backfill))

    def room(self, *, backfill: bool = False) -> int:
        self.requests += 1
        return self.left

    def opens_at(self) -> datetime:
        return self._clock() + timedelta(milliseconds=5)


@dataclass(frozen=True)
class Working:
    """A running worker and the signals that wake it."""

    worker: Worker
    signals: Signals

    def wake(self, account: str) -> None:
        self.signals.publish(members_due(account))

    def exports_changed(self) -> None:
        self.signals.publish(EXPORTS_CHANGED)

    async def stop(self) -> None:
        await self.worker.stop()


@asynccontextmanager
async def working(
    world: World,
    *,
    concurrency: int = 4,
    patience: timedelta = 10 * SECOND,
    throttle: Throttle | None = None,
    is_shared: bool = False,
    poll_interval: timedelta | None = None,
) -> AsyncIterator[Working]:
    world.account = CircuitBreaker(
        ACCOUNT, world, world.clock, Alarms(), concurrency=concurrency, throttle=throttle, is_shared=is_shared
    )
    loop = AccountLoop(ACCOUNT, world, world, world.account, world.clock)
    signals = Signals()
    worker = Worker(
        world,
        {ACCOUNT: loop},
        signals,
        unfinished_exports=world.unfinished,
        name_exports=world.name_exports,
        drain_patience=patience,
        poll_interval=poll_interval,
    )
    worker.start()
    try:
        yield Working(worker, signals)
    finally:
        world.may_answer.set()
        await worker.stop()


async def run_ready_tasks() -> None:
    """Run all tasks until each waits for a timer or an event of the test."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


class TestClaiming:
    async def test_idle_worker_does_not_claim(self, world: World) -> None:
        """After the first round, the loop queries the store only after a wake-up."""
        async with working(world) as worker:
            await run_ready_tasks()
            before = len(world.claims)
            await run_ready_tasks()
            after = len(world.claims)
            world.due = [claim()]
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert before == after <= 2

    async def test_signal_for_unknown_account_is_ignored(self, world: World) -> None:
        """The store may hold members of an account that was removed from the settings."""
        async with working(world) as worker:
            await run_ready_tasks()
            before = len(world.claims)
            worker.wake("removed")
            await run_ready_tasks()

        assert len(world.claims) == before

    async def test_concurrency_is_never_exceeded(self, clock: Clock) -> None:
        """Free slots are used until no member is due."""
        world = World(clock, due=50)
        world.may_answer.clear()
        async with working(world, concurrency=4):
            await until(lambda: world.in_flight == 4)
            await run_ready_tasks()
            held = world.in_flight
            world.may_answer.set()
            await until(lambda: len(world.delivered) == 50)

        assert (held, world.most_in_flight) == (4, 4)
        assert max(world.claims) == 4

    async def test_member_due_later_is_called_then(self, world: World) -> None:
        world.due_at = NOON + timedelta(milliseconds=20)
        async with working(world):
            await until(lambda: world.claims)
            world.due = [claim()]
            await until(lambda: world.delivered)

        assert world.delivered == [1]

    async def test_orders_are_carried_out_batch_by_batch(self, world: World) -> None:
        async with working(world) as worker:
            await run_ready_tasks()
            world.unfinished_exports, world.has_more = [7, 8], [True, True, False]
            worker.exports_changed()
            await until(lambda: 8 in world.carried_out)

        assert world.carried_out == [7, 7, 7, 8]

    async def test_orders_do_not_wait_for_names(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """An unanswered request for a name or a list takes a whole timeout."""
        hangs = asyncio.Event()

        async def name_exports() -> bool:
            await hangs.wait()
            return False

        monkeypatch.setattr(world, "name_exports", name_exports)
        async with working(world) as worker:
            await run_ready_tasks()
            world.unfinished_exports = [7]
            worker.exports_changed()
            await until(lambda: world.carried_out)
            hangs.set()
            world.unfinished_exports = [8]
            await until(lambda: 8 in world.carried_out)

        assert world.carried_out == [7, 8]


class TestCircuitBreaker:
    async def test_refused_credentials_open_breaker(self, clock: Clock) -> None:
        """No member is claimed until the probe. A failed probe doubles the wait."""
        world = World(clock, due=3)
        world.errors = [CredentialsRefused(5, "Wrong signature.") for _ in range(4)]
        async with working(world, concurrency=3) as worker:
            await until(lambda: world.state() == "refused" and not world.in_flight)
            await run_ready_tasks()
            first = list(world.claims)
            clock.advance(FIRST_PROBE_WAIT - SECOND)
            worker.wake(ACCOUNT)
            await run_ready_tasks()
            during = list(world.claims)
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: not world.errors)
            await run_ready_tasks()
            probe = world.claims[len(first) :]
            clock.advance(2 * FIRST_PROBE_WAIT - SECOND)
            worker.wake(ACCOUNT)
            await run_ready_tasks()
            still = world.state()
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)
            end = world.state()

        assert during == first
        assert probe == [1]
        assert (still, end) == ("refused", None)

    async def test_open_breaker_survives_restart_and_is_probed_at_once(self, clock: Clock) -> None:
        """The probe does not wait for the stored probe time."""
        world = World(clock, due=3)
        refused = CredentialsRefused(5, "Wrong signature.")
        world.stored = BreakerState().opened(OpenReason.REFUSED, refused, NOON - SECOND)
        world.errors = [refused]
        async with working(world) as worker:
            await until(lambda: not world.errors)
            await run_ready_tasks()
            still, claims = world.state(), list(world.claims)
            clock.advance(2 * FIRST_PROBE_WAIT)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)

        assert (still, claims) == ("refused", [1])
        assert world.stored == BreakerState(was_open_for=2 * FIRST_PROBE_WAIT + SECOND)

    async def test_without_capacity_no_member_is_claimed(self, clock: Clock) -> None:
        """The loop continues when the rate limiter has room."""
        world = World(clock, due=3)
        throttle = FakeThrottle(clock)
        async with working(world, throttle=throttle):
            await until(lambda: throttle.requests)
            await run_ready_tasks()
            before = list(world.claims)
            throttle.left = 2
            await until(lambda: len(world.delivered) == 3)

        assert before == []
        assert max(world.claims) == 2

    async def test_share_is_requested_as_needed(self, clock: Clock) -> None:
        """Without due members the request is for one call, with a backlog for all free slots."""
        world, throttle = World(clock), FakeThrottle(clock)
        throttle.left = 100
        async with working(world, throttle=throttle) as worker:
            await until(lambda: world.claims)
            await run_ready_tasks()
            world.due = [claim(member_id=number) for number in range(20)]
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 20)
            await run_ready_tasks()
            busy = len(throttle.prepared)
            worker.wake(ACCOUNT)
            await run_ready_tasks()

        assert set(throttle.prepared[:2]) == {(1, False)}
        assert (4, False) in throttle.prepared[2:busy]
        assert throttle.prepared[busy:] == [(1, False)]

    async def test_probe_of_another_replica_is_not_repeated(self, clock: Clock) -> None:
        """No member is claimed until the other replica has closed the breaker."""
        world = World(clock, due=3)
        world.stored = BreakerState().opened(OpenReason.REFUSED, CredentialsRefused(5, "Wrong signature."), NOON)
        world.probe_is_reserved = True
        async with working(world, is_shared=True) as worker:
            await until(lambda: world.probe_requests)
            await run_ready_tasks()
            during = list(world.claims)
            world.stored = world.stored.closed(NOON)
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)

        assert during == []

    async def test_probe_without_due_member_is_released(self, clock: Clock) -> None:
        """Any replica may make the probe as soon as a member is due."""
        world = World(clock)
        world.stored = BreakerState().opened(OpenReason.REFUSED, CredentialsRefused(5, "Wrong signature."), NOON)
        async with working(world, is_shared=True) as worker:
            await until(lambda: world.claims)
            await run_ready_tasks()
            left_at = world.stored.probe_at
            world.due = [claim()]
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert left_at == NOON
        assert world.state() is None


class TestStopping:
    async def test_stop_waits_for_calls_in_flight(self, clock: Clock) -> None:
        """No more members are claimed. The calls in flight end and are settled."""
        world = World(clock, due=10)
        world.may_answer.clear()
        async with working(world, concurrency=2) as worker:
            await until(lambda: world.in_flight == 2)
            stopping = asyncio.create_task(worker.stop())
            await run_ready_tasks()
            waits = not stopping.done()
            world.may_answer.set()
            await stopping
            flushed = world.flushed

        assert waits
        assert (len(world.delivered), flushed) == (2, 1)
        assert len(world.due) == 8

    @pytest.mark.parametrize("within", ["restore", "prepare"])
    async def test_stop_before_first_claim(self, clock: Clock, monkeypatch: pytest.MonkeyPatch, within: str) -> None:
        """The loop claims no member and stops without a wake-up."""
        world = World(clock, due=3)
        waiting, goes_on = asyncio.Event(), asyncio.Event()

        async def wait(*_: object, **__: object) -> None:
            waiting.set()
            await goes_on.wait()

        monkeypatch.setattr(CircuitBreaker, within, wait)
        async with working(world) as worker:
            await waiting.wait()
            stopping = asyncio.create_task(worker.stop())
            await run_ready_tasks()
            goes_on.set()
            await run_ready_tasks()

            assert stopping.done()
            assert world.claims == []

    async def test_stop_cancels_call_that_takes_too_long(self, clock: Clock) -> None:
        """The lease of its member expires later."""
        world = World(clock, due=1)
        world.may_answer.clear()
        async with working(world, patience=timedelta(milliseconds=10)) as worker:
            await until(lambda: world.in_flight == 1)
            await worker.stop()
            left = world.in_flight

        assert (left, world.delivered) == (0, [])


class TestErrors:
    async def test_loop_survives_unavailable_store(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.delivery.loop.STORE_RETRY_WAIT", timedelta(milliseconds=5))
        world.claim_errors, world.due = [StoreUnavailable("The disk is full.") for _ in range(3)], [claim()]
        async with working(world):
            await until(lambda: world.delivered)

        assert not world.claim_errors

    @pytest.mark.parametrize("error", [StoreUnavailable("The disk is full."), RuntimeError("a bug")])
    async def test_failed_delivery_does_not_delay_others(self, clock: Clock, error: Exception) -> None:
        world = World(clock, due=5)
        world.errors = [error]
        async with working(world, concurrency=1):
            await until(lambda: len(world.delivered) == 4)

        assert world.delivered == [1, 2, 3, 4]

    async def test_loop_survives_failed_claim(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.delivery.loop.STORE_RETRY_WAIT", timedelta(milliseconds=5))
        monkeypatch.setattr("tests.service.PATIENCE_SECONDS", 1)
        world.claim_errors, world.due = [RuntimeError("a bug")], [claim()]
        async with working(world) as worker:
            await run_ready_tasks()
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert world.delivered == [1]

    @pytest.mark.parametrize("trouble", [StoreUnavailable("The disk is full."), RuntimeError("a bug"), True])
    async def test_unfinished_naming_is_repeated(
        self, world: World, monkeypatch: pytest.MonkeyPatch, trouble: Exception | bool
    ) -> None:
        monkeypatch.setattr("app.delivery.worker.FIRST_RETRY_WAIT", timedelta(milliseconds=5))
        world.naming = [trouble, trouble]
        async with working(world):
            await until(lambda: world.naming_rounds == 3)
            await run_ready_tasks()

        assert world.naming_rounds == 3


async def test_exports_are_polled_without_signal(world: World) -> None:
    """Another replica may have changed an export."""
    async with working(world, poll_interval=timedelta(milliseconds=5)):
        await until(lambda: world.naming_rounds > 3)


class Answers(Deliverer):
    """A deliverer whose deliveries take the given seconds, by member."""

    lease_for, timeout = timedelta(seconds=32), timedelta(seconds=15)

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.left: dict[int, float] = {}
        self.all_left = asyncio.Event()

    async def deliver(self, held: Claim, *, is_probe: bool = False) -> Delivered:
        self.left[held.member_id] = asyncio.get_running_loop().time()
        if len(self.left) == len(self.seconds):
            self.all_left.set()
        await asyncio.sleep(self.seconds[held.member_id])
        return Delivered(None, None)


def departures(seconds: dict[int, float], *, slots: int) -> dict[int, float]:
    """Return when each member's call left. All members are due from the start."""

    async def work() -> dict[int, float]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=len(seconds))
        answers = Answers(seconds)
        loop = AccountLoop(
            ACCOUNT, world, answers, CircuitBreaker(ACCOUNT, world, clock, Alarms(), concurrency=slots), clock
        )
        task = asyncio.create_task(loop.run())
        await answers.all_left.wait()
        loop.stop()
        await task
        await loop.drain(patience=MINUTE)
        return answers.left

    return run(work())


def test_overtaken_slow_calls_do_not_delay_others() -> None:
    """Calls that last half a minute use three of four slots.

    After two seconds they count as slow, and their slots are free again.
    """
    left = departures({0: 30, 1: 30, 2: 30, **dict.fromkeys(range(3, 103), 0.1)}, slots=4)

    assert left[102] == pytest.approx(2 + (100 - 20) * 0.1 / 4, abs=0.2)


def test_without_any_answer_no_further_calls_leave() -> None:
    """All calls hang and will have unknown outcomes, so no more calls may leave."""
    left = departures(dict.fromkeys(range(12), 15.0), slots=4)

    assert [n for n, at in left.items() if at < 15] == [0, 1, 2, 3]


def test_calls_in_flight_are_at_most_eight_times_the_slots() -> None:
    seconds = {n: 0.1 if n % 9 else 1000.0 for n in range(200)}
    left = departures(seconds, slots=3)
    at_once = max(sum(left[n] <= at < left[n] + seconds[n] for n in left) for at in left.values())

    assert at_once == IN_FLIGHT_FACTOR * 3


@pytest.mark.parametrize(
    ("error", "calls"),
    [(OutcomeUnknown("timeout", "No answer."), [1, 1, 2]), (CallFailed("unreadable", "An error page."), [2, 2, 2])],
    ids=["unknown", "known"],
)
def test_member_is_not_called_while_unanswered_call_may_be_applied(error: CallFailed, calls: list[int]) -> None:
    """The clock is set forward, so the member is due at once. The timeout is 15 seconds."""

    async def work() -> list[int]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=1)
        world.errors = [error]
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, Alarms(), concurrency=4), clock)
        task = asyncio.create_task(loop.run())
        found = []
        for seconds in (1, 13, 2):
            await asyncio.sleep(seconds)
            if not world.delivered:
                world.due = [claim(member_id=0)]
                loop.wake()
                await asyncio.sleep(0.1)
            found.append(1 + len(world.delivered))
        loop.stop()
        await task
        return found

    assert run(work()) == calls


def test_busy_member_uses_no_slot() -> None:
    """A wrong clock makes a member due while its last call may still be applied.

    The claim of this member does not use the only slot, so the next member is called.
    """

    async def work() -> list[int]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=1)
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, Alarms(), concurrency=1), clock)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        world.due = [claim(member_id=0), claim(member_id=1)]
        loop.wake()
        await asyncio.sleep(1)
        loop.stop()
        await task
        return world.delivered

    assert run(work()) == [1]


def test_locked_due_member_is_polled_every_10_ms() -> None:
    """A claim skips rows that another transaction has locked, and the loop must not spin."""

    async def work() -> int:
        clock = LoopClock(NOON)
        world = World(Clock())
        world.due_at = NOON
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, Alarms(), concurrency=4), clock)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        claims = len(world.claims)
        loop.stop()
        await task
        return claims

    assert run(work()) == pytest.approx(100, abs=1)


async def test_chore_repeats_also_after_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chore runs at the start and after each interval. A stop does not wait for its next run."""
    monkeypatch.setattr("app.delivery.worker.CHORE_RETRY_WAIT", timedelta(milliseconds=1))
    turns: list[timedelta | Exception] = [
        timedelta(0),
        timedelta(milliseconds=1),
        StoreUnavailable("unavailable"),
        RuntimeError("a bug"),
        timedelta(hours=1),
    ]

    async def chore() -> timedelta:
        turn = turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    world = World(Clock())
    worker = Worker(
        world,
        {},
        Signals(),
        unfinished_exports=world.unfinished,
        name_exports=world.name_exports,
        drain_patience=MINUTE,
        chores={"a chore": chore},
    )
    worker.start()
    await until(lambda: not turns)
    await worker.stop()

    assert all(task.done() and not task.cancelled() for task in worker._tasks)
