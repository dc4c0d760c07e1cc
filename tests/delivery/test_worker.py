"""The worker: when it claims, how many at once, when it pauses, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.delivery.circuit_breaker import MOST_PLACES, CircuitBreaker, Pace
from app.delivery.deliver import Delivered
from app.delivery.loop import AccountLoop
from app.delivery.worker import Worker
from app.domain.account import FIRST_PROBE_WAIT, BreakerState, Capacity, OpenReason, reconciled
from app.domain.call import Claim
from app.domain.errors import CallFailed, CredentialsRefused, OutcomeUnknown, StoreUnavailable
from tests.factories import ACCOUNT, MINUTE, NOON, SECOND, Clock, claim
from tests.service import until
from tests.virtual_time import LoopClock, run


class World:
    """A queue of members that are due, and a delivery that is held or fails as a test says."""

    lease_for, timeout = timedelta(seconds=32), timedelta(seconds=15)

    def __init__(self, clock: Clock, *, due: int = 0) -> None:
        self.clock = clock
        self.due = [claim(member_id=number) for number in range(due)]
        self.claims: list[int] = []
        self.claim_errors: list[Exception] = []
        self.due_at: datetime | None = None
        self.delivered: list[int] = []
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = self.most_in_flight = 0
        self.rounds_of_naming = 0
        self.naming: list[Exception | bool] = []
        self.to_wake: list[int] = []
        self.slices: list[bool] = []
        self.woken: list[int] = []
        self.flushed = 0
        self.kept = BreakerState()
        self.account: CircuitBreaker | None = None
        self.probe_is_elsewhere = False
        self.probes_asked = 0

    def state(self) -> str | None:
        assert self.account is not None
        return None if self.account.pause is None else self.account.pause.value

    async def load(self, account: str) -> BreakerState:
        return self.kept

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        stored, self.kept = self.kept, reconciled(self.kept, before, after, now)
        return stored, self.kept

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        self.probes_asked += 1
        if self.probe_is_elsewhere or self.kept.pause is None or self.kept.probes_at(now) > now:
            return None
        self.kept = replace(self.kept, probe_at=until)
        return self.kept

    async def claim(self, account: str, *, room: Capacity, lease_for: timedelta) -> list[Claim]:
        assert (account, lease_for) == (ACCOUNT, self.lease_for)
        self.claims.append(room.calls)
        if self.claim_errors:
            raise self.claim_errors.pop(0)
        taken, self.due = self.due[: room.calls], self.due[room.calls :]
        return taken

    async def next_due_at(self, account: str) -> datetime | None:
        return self.due_at

    async def next_batch(self, export_id: int) -> bool:
        self.woken.append(export_id)
        return self.slices.pop(0) if self.slices else False

    async def flush(self) -> None:
        self.flushed += 1

    async def unfinished(self) -> list[int]:
        unfinished, self.to_wake = self.to_wake, []
        return unfinished

    async def name_exports(self) -> bool:
        self.rounds_of_naming += 1
        result = self.naming.pop(0) if self.naming else False
        if isinstance(result, Exception):
            raise result
        return result

    async def deliver(self, held: Claim, *, is_probe: bool = False) -> Delivered:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        error = self.errors.pop(0) if self.errors else None
        if self.account is not None and (error is None or isinstance(error, CallFailed)):
            await self.account.judge(held.member_id, error, is_probe=is_probe)
        if isinstance(error, CallFailed):
            self.due.append(held)
            return Delivered(error, self.clock(), may_go_on=isinstance(error, OutcomeUnknown))
        if error is not None:
            raise error
        self.delivered.append(held.member_id)
        return Delivered(None, None)


class RateLimiter:
    """Room for as many calls as a test says."""

    def __init__(self, clock: Clock) -> None:
        self.left = 0
        self.asked = 0
        self.prepared: list[tuple[int, bool]] = []
        self._clock = clock

    async def prepare(self, calls: int, *, backfill: bool) -> None:
        self.prepared.append((calls, backfill))

    def room(self, *, backfill: bool = False) -> int:
        self.asked += 1
        return self.left

    def opens_at(self) -> datetime:
        return self._clock() + timedelta(milliseconds=5)


@asynccontextmanager
async def working(
    world: World,
    *,
    concurrency: int = 4,
    patience: timedelta = 10 * SECOND,
    pace: Pace | None = None,
    is_shared: bool = False,
    looks_every: timedelta | None = None,
) -> AsyncIterator[Worker]:
    world.account = CircuitBreaker(ACCOUNT, world, world.clock, concurrency=concurrency, pace=pace, is_shared=is_shared)
    loop = AccountLoop(ACCOUNT, world, world, world.account, world.clock)
    worker = Worker(world, world, {ACCOUNT: loop}, world.name_exports, drain_patience=patience, looks_every=looks_every)
    worker.start()
    try:
        yield worker
    finally:
        world.gate.set()
        await worker.stop()


async def settled() -> None:
    """Everything that can run now has run: nothing here waits for more than the event loop."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


class TestClaiming:
    async def test_an_idle_service_does_not_claim(self, world: World) -> None:
        """After the first look nobody asks the store until somebody wakes the loop."""
        async with working(world) as worker:
            await settled()
            before = len(world.claims)
            await settled()
            after = len(world.claims)
            world.due = [claim()]
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert before == after <= 2

    async def test_an_account_that_is_not_set_is_not_woken(self, world: World) -> None:
        """The store may hold members of an account that was taken out of the settings."""
        async with working(world) as worker:
            await settled()
            before = len(world.claims)
            worker.wake("gone")
            await settled()

        assert len(world.claims) == before

    async def test_no_more_than_allowed_at_once(self, clock: Clock) -> None:
        """Places that become free are taken again until nobody is due."""
        world = World(clock, due=50)
        world.gate.clear()
        async with working(world, concurrency=4):
            await until(lambda: world.in_flight == 4)
            await settled()
            held = world.in_flight
            world.gate.set()
            await until(lambda: len(world.delivered) == 50)

        assert (held, world.most_in_flight) == (4, 4)
        assert max(world.claims) == 4

    async def test_who_is_due_later_is_called_for_then(self, world: World) -> None:
        """The next due time wakes the loop by itself."""
        world.due_at = NOON + timedelta(milliseconds=20)
        async with working(world):
            await until(lambda: world.claims)
            world.due = [claim()]
            await until(lambda: world.delivered)

        assert world.delivered == [1]

    async def test_those_who_waited_for_a_name_are_made_due_slice_by_slice(self, world: World) -> None:
        """An export that begins to run brings its waiting members until none are left."""
        async with working(world) as worker:
            await settled()
            world.to_wake, world.slices = [7, 8], [True, True, False]
            worker.exports_changed()
            await until(lambda: 8 in world.woken)

        assert world.woken == [7, 7, 7, 8]

    async def test_they_do_not_wait_while_others_are_named(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each name or list that nobody answers for takes a whole timeout."""
        hangs = asyncio.Event()

        async def name_exports() -> bool:
            await hangs.wait()
            return False

        monkeypatch.setattr(world, "name_exports", name_exports)
        async with working(world) as worker:
            await settled()
            world.to_wake = [7]
            worker.exports_changed()
            await until(lambda: world.woken)
            hangs.set()
            world.to_wake = [8]
            await until(lambda: 8 in world.woken)

        assert world.woken == [7, 8]


class TestPausing:
    async def test_refused_credentials_pause_the_account(self, clock: Clock) -> None:
        """Nobody is claimed during the pause; then one member's own call is the probe, and the next pause is longer."""
        world = World(clock, due=3)
        world.errors = [CredentialsRefused(5, "Wrong signature.") for _ in range(4)]
        async with working(world, concurrency=3) as worker:
            await until(lambda: world.state() == "refused" and not world.in_flight)
            await settled()
            first = list(world.claims)
            clock.advance(FIRST_PROBE_WAIT - SECOND)
            worker.wake(ACCOUNT)
            await settled()
            during = list(world.claims)
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: not world.errors)
            await settled()
            probe = world.claims[len(first) :]
            clock.advance(2 * FIRST_PROBE_WAIT - SECOND)
            worker.wake(ACCOUNT)
            await settled()
            still = world.state()
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)
            end = world.state()

        assert during == first
        assert probe == [1]
        assert (still, end) == ("refused", None)

    async def test_a_pause_outlives_a_restart_and_begins_with_a_probe(self, clock: Clock) -> None:
        """Nobody has to wait for the next probe's time, which another process had set."""
        world = World(clock, due=3)
        refused = CredentialsRefused(5, "Wrong signature.")
        world.kept = BreakerState().paused(OpenReason.REFUSED, refused, NOON - SECOND)
        world.errors = [refused]
        async with working(world) as worker:
            await until(lambda: not world.errors)
            await settled()
            still, claims = world.state(), list(world.claims)
            clock.advance(2 * FIRST_PROBE_WAIT)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)

        assert (still, claims) == ("refused", [1])
        assert world.kept == BreakerState(paused_for=2 * FIRST_PROBE_WAIT + SECOND)

    async def test_without_room_nobody_is_claimed(self, clock: Clock) -> None:
        """The loop asks again when the budget says so, by itself."""
        world = World(clock, due=3)
        pace = RateLimiter(clock)
        async with working(world, pace=pace):
            await until(lambda: pace.asked)
            await settled()
            before = list(world.claims)
            pace.left = 2
            await until(lambda: len(world.delivered) == 3)

        assert before == []
        assert max(world.claims) == 2

    async def test_room_is_asked_for_as_it_is_needed(self, clock: Clock) -> None:
        """For one call as long as nobody is due, which leaves the rest to other replicas; with a backlog for all
        places.
        """
        world, pace = World(clock), RateLimiter(clock)
        pace.left = 100
        async with working(world, pace=pace) as worker:
            await until(lambda: world.claims)
            await settled()
            world.due = [claim(member_id=number) for number in range(20)]
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 20)
            await settled()
            busy = len(pace.prepared)
            worker.wake(ACCOUNT)
            await settled()

        assert set(pace.prepared[:2]) == {(1, False)}
        assert (4, False) in pace.prepared[2:busy]
        assert pace.prepared[busy:] == [(1, False)]

    async def test_a_probe_that_another_replica_makes_is_not_made_here(self, clock: Clock) -> None:
        """Nobody is claimed; once it was found that Sailthru answers, all go on."""
        world = World(clock, due=3)
        world.kept = BreakerState().paused(OpenReason.REFUSED, CredentialsRefused(5, "Wrong signature."), NOON)
        world.probe_is_elsewhere = True
        async with working(world, is_shared=True) as worker:
            await until(lambda: world.probes_asked)
            await settled()
            during = list(world.claims)
            world.kept = world.kept.resumed(NOON)
            clock.advance(SECOND)
            worker.wake(ACCOUNT)
            await until(lambda: len(world.delivered) == 3)

        assert during == []

    async def test_a_probe_without_anybody_to_call_for_is_left_to_others(self, clock: Clock) -> None:
        """Or to us, as soon as somebody is due: nobody waits for as long as a probe is held."""
        world = World(clock)
        world.kept = BreakerState().paused(OpenReason.REFUSED, CredentialsRefused(5, "Wrong signature."), NOON)
        async with working(world, is_shared=True) as worker:
            await until(lambda: world.claims)
            await settled()
            left_at = world.kept.probe_at
            world.due = [claim()]
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert left_at == NOON
        assert world.state() is None


class TestStopping:
    async def test_calls_in_flight_are_finished(self, clock: Clock) -> None:
        """Draining claims nobody any more, waits for the calls under way, and for what they write."""
        world = World(clock, due=10)
        world.gate.clear()
        async with working(world, concurrency=2) as worker:
            await until(lambda: world.in_flight == 2)
            stopping = asyncio.create_task(worker.stop())
            await settled()
            waits = not stopping.done()
            world.gate.set()
            await stopping
            flushed = world.flushed

        assert waits
        assert (len(world.delivered), flushed) == (2, 1)
        assert len(world.due) == 8

    @pytest.mark.parametrize("within", ["open", "prepare"])
    async def test_before_it_has_claimed_anybody(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch, within: str
    ) -> None:
        """It claims nobody, and does not wait for somebody to wake it."""
        world = World(clock, due=3)
        waiting, goes_on = asyncio.Event(), asyncio.Event()

        async def wait(*_: object, **__: object) -> None:
            waiting.set()
            await goes_on.wait()

        monkeypatch.setattr(CircuitBreaker, within, wait)
        async with working(world) as worker:
            await waiting.wait()
            stopping = asyncio.create_task(worker.stop())
            await settled()
            goes_on.set()
            await settled()

            assert stopping.done()
            assert world.claims == []

    async def test_a_call_that_takes_too_long_is_cut_off(self, clock: Clock) -> None:
        """Its lease decides what comes next."""
        world = World(clock, due=1)
        world.gate.clear()
        async with working(world, patience=timedelta(milliseconds=10)) as worker:
            await until(lambda: world.in_flight == 1)
            await worker.stop()
            left = world.in_flight

        assert (left, world.delivered) == (0, [])


class TestMistakes:
    async def test_a_store_that_is_away(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loop tries again a little later."""
        monkeypatch.setattr("app.delivery.loop.STORE_PAUSE", timedelta(milliseconds=5))
        world.claim_errors, world.due = [StoreUnavailable("The disk is full.") for _ in range(3)], [claim()]
        async with working(world):
            await until(lambda: world.delivered)

        assert not world.claim_errors

    @pytest.mark.parametrize("error", [StoreUnavailable("The disk is full."), RuntimeError("a mistake")])
    async def test_a_delivery_that_breaks(self, clock: Clock, error: Exception) -> None:
        """One member's trouble does not keep the others waiting."""
        world = World(clock, due=5)
        world.errors = [error]
        async with working(world, concurrency=1):
            await until(lambda: len(world.delivered) == 4)

        assert world.delivered == [1, 2, 3, 4]

    async def test_a_claim_that_breaks(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mistake of ours while claiming does not end the loop."""
        monkeypatch.setattr("app.delivery.loop.STORE_PAUSE", timedelta(milliseconds=5))
        monkeypatch.setattr("tests.service.PATIENCE_SECONDS", 1)
        world.claim_errors, world.due = [RuntimeError("a mistake")], [claim()]
        async with working(world) as worker:
            await settled()
            worker.wake(ACCOUNT)
            await until(lambda: world.delivered)

        assert world.delivered == [1]

    @pytest.mark.parametrize("trouble", [StoreUnavailable("The disk is full."), RuntimeError("a mistake"), True])
    async def test_naming_that_breaks(
        self, world: World, monkeypatch: pytest.MonkeyPatch, trouble: Exception | bool
    ) -> None:
        """Names are asked for again a little later, by itself; once all is named, not any more."""
        monkeypatch.setattr("app.delivery.worker.FIRST_PAUSE", timedelta(milliseconds=5))
        world.naming = [trouble, trouble]
        async with working(world):
            await until(lambda: world.rounds_of_naming == 3)
            await settled()

        assert world.rounds_of_naming == 3


async def test_exports_are_looked_after_although_nobody_told_of_a_change(world: World) -> None:
    """Where another replica may have changed one."""
    async with working(world, looks_every=timedelta(milliseconds=5)):
        await until(lambda: world.rounds_of_naming > 3)


class Answers:
    """Deliveries that take as long as a test says, by member."""

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


def departures(seconds: dict[int, float], *, places: int) -> dict[int, float]:
    """When each member's call left, all of them due from the beginning."""

    async def work() -> dict[int, float]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=len(seconds))
        answers = Answers(seconds)
        loop = AccountLoop(ACCOUNT, world, answers, CircuitBreaker(ACCOUNT, world, clock, concurrency=places), clock)
        task = asyncio.create_task(loop.run())
        await answers.all_left.wait()
        loop.stop()
        await task
        await loop.drain(patience=MINUTE)
        return answers.left

    return run(work())


def test_slow_calls_that_others_overtake_hold_nobody_back() -> None:
    """Three of four places are taken by calls that last half a minute; what comes behind them goes on at once after the
    two seconds that tell a slow call.
    """
    left = departures({0: 30, 1: 30, 2: 30, **dict.fromkeys(range(3, 103), 0.1)}, places=4)

    assert left[102] == pytest.approx(2 + (100 - 20) * 0.1 / 4, abs=0.2)


def test_when_nobody_is_answered_no_further_calls_leave() -> None:
    """All calls hang: each of them is one whose outcome will not be known, so there shall not be more of them."""
    left = departures(dict.fromkeys(range(12), 15.0), places=4)

    assert [n for n, at in left.items() if at < 15] == [0, 1, 2, 3]


def test_overtaken_calls_are_out_eight_times_the_places_at_most() -> None:
    seconds = {n: 0.1 if n % 9 else 1000.0 for n in range(200)}
    left = departures(seconds, places=3)
    at_once = max(sum(left[n] <= at < left[n] + seconds[n] for n in left) for at in left.values())

    assert at_once == MOST_PLACES * 3


@pytest.mark.parametrize(
    ("error", "calls"),
    [(OutcomeUnknown("timeout", "No answer."), [1, 1, 2]), (CallFailed("unreadable", "An error page."), [2, 2, 2])],
    ids=["unknown", "known"],
)
def test_nobody_is_called_while_a_call_that_was_given_up_may_still_be_carried_out(
    error: CallFailed, calls: list[int]
) -> None:
    """Also where a clock that was set forward makes them due at once. The timeout is one of 15 seconds."""

    async def work() -> list[int]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=1)
        world.errors = [error]
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, concurrency=4), clock)
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


def test_whoever_rests_after_a_call_keeps_nobody_waiting() -> None:
    """The only place is for somebody who may not be called for yet, since our clock was set forward: the next one
    is.
    """

    async def work() -> list[int]:
        clock = LoopClock(NOON)
        world = World(Clock(), due=1)
        world.errors = [OutcomeUnknown("timeout", "No answer.")]
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, concurrency=1), clock)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        world.due = [claim(member_id=0), claim(member_id=1)]
        loop.wake()
        await asyncio.sleep(1)
        loop.stop()
        await task
        return world.delivered

    assert run(work()) == [1]


def test_whoever_is_due_and_locked_is_looked_for_without_a_spin() -> None:
    """A claim leaves out whose row another transaction holds: the loop does not go round without a pause meanwhile."""

    async def work() -> int:
        clock = LoopClock(NOON)
        world = World(Clock())
        world.due_at = NOON
        loop = AccountLoop(ACCOUNT, world, world, CircuitBreaker(ACCOUNT, world, clock, concurrency=4), clock)
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        claims = len(world.claims)
        loop.stop()
        await task
        return claims

    assert run(work()) == pytest.approx(100, abs=1)


async def test_a_chore_has_its_turn_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and each time that it wants it, also if it failed; a stop does not wait for the next."""
    monkeypatch.setattr("app.delivery.worker.CHORE_PAUSE", timedelta(milliseconds=1))
    turns: list[timedelta | Exception] = [
        timedelta(0),
        timedelta(milliseconds=1),
        StoreUnavailable("away"),
        RuntimeError("a mistake"),
        timedelta(hours=1),
    ]

    async def chore() -> timedelta:
        turn = turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    world = World(Clock())
    worker = Worker(world, world, {}, world.name_exports, drain_patience=MINUTE, chores={"a chore": chore})
    worker.start()
    await until(lambda: not turns)
    await worker.stop()

    assert all(task.done() and not task.cancelled() for task in worker._tasks)
