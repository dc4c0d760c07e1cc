"""The circuit breaker of one account with several replicas: shared state, probes and alarms."""

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.alarms import Alarms
from app.delivery.circuit_breaker import READ_INTERVAL, CircuitBreaker
from app.delivery.store import BreakerStore
from app.domain.account import FIRST_PROBE_WAIT, LONGEST_PROBE_WAIT, BreakerState, OpenReason, merged
from app.domain.errors import CredentialsRefused, StoreUnavailable
from tests.factories import ACCOUNT, HOUR, MINUTE, NOON, Clock

REFUSED = CredentialsRefused(5, "Wrong signature.")
RAISED, RESOLVED, CHANGED_ELSEWHERE = "alarm raised", "alarm resolved", "another replica changed the circuit breaker"
NOT_SAVED = "the circuit breaker could not be saved"


class Store(BreakerStore):
    """A store in memory, with one state."""

    def __init__(self) -> None:
        self.state = BreakerState()
        self.reads = 0
        self.is_unavailable = False

    async def load(self, account: str) -> BreakerState:
        self._reached(account)
        self.reads += 1
        return self.state

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        self._reached(account)
        stored, self.state = self.state, merged(self.state, before, after, now)
        return stored, self.state

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        self._reached(account)
        if not self.state.is_open or self.state.next_probe_at(now) > now:
            return None
        self.state = replace(self.state, probe_at=until)
        return self.state

    def _reached(self, account: str) -> None:
        assert account == ACCOUNT
        if self.is_unavailable:
            raise StoreUnavailable("The database is unavailable.")


class World:
    """Two replicas of one account."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.store = clock, Store()
        self.first, self.second = (
            CircuitBreaker(ACCOUNT, self.store, clock, Alarms(), concurrency=4, is_shared=True) for _ in range(2)
        )

    async def refresh(self, *, after: timedelta = READ_INTERVAL) -> None:
        self.clock.advance(after)
        for breaker in (self.first, self.second):
            await breaker.prepare(0, has_backlog=False, is_backfill=False)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


def events(log: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in log]


async def test_shared_state_is_read_once_a_second(world: World) -> None:
    for _ in range(10):
        await world.refresh(after=READ_INTERVAL / 5)

    assert world.store.reads == 2 * 2


async def test_clock_set_back_does_not_delay_next_read(world: World) -> None:
    await world.refresh()
    await world.refresh(after=-HOUR)

    assert world.store.reads == 2 * 2


async def test_unshared_state_is_not_read(clock: Clock) -> None:
    store = Store()
    breaker = CircuitBreaker(ACCOUNT, store, clock, Alarms(), concurrency=4)
    await breaker.prepare(0, has_backlog=False, is_backfill=False)

    assert await breaker.reserve_probe()
    assert store.reads == 0


async def test_change_by_one_replica_applies_to_all(world: World, log: list[MutableMapping[str, Any]]) -> None:
    """The replica that opens or closes the breaker announces the alarm. The other replica only logs the change."""
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.refresh()
    is_probe = [breaker.capacity(0).is_probe for breaker in (world.first, world.second)]
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.second.reserve_probe()
    await world.second.judge(1, None, is_probe=True)
    await world.refresh()

    assert is_probe == [True, True]
    assert [breaker.capacity(0).calls for breaker in (world.first, world.second)] == [4, 4]
    assert events(log) == [RAISED, CHANGED_ELSEWHERE, RESOLVED, CHANGED_ELSEWHERE]


async def test_breaker_opened_by_two_replicas_raises_one_alarm(
    world: World, log: list[MutableMapping[str, Any]]
) -> None:
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.second.judge(2, REFUSED, is_probe=False)
    await world.refresh()

    assert events(log) == [RAISED]
    assert world.first.state == world.second.state == BreakerState().opened(OpenReason.REFUSED, REFUSED, NOON)


async def test_one_replica_makes_probe(world: World) -> None:
    """The reservation expires after the longest wait, because the replica may have crashed."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    await world.refresh(after=timedelta(0))
    is_due = [breaker.capacity(0).calls for breaker in (world.first, world.second)]
    probes = [await world.first.reserve_probe(), await world.second.reserve_probe()]
    await world.second.prepare(0, has_backlog=False, is_backfill=False)
    is_due_elsewhere, opens_at = world.second.capacity(0).calls, world.second.next_capacity_at()
    await world.refresh(after=LONGEST_PROBE_WAIT)

    assert is_due == [1, 1]
    assert probes == [True, False]
    assert (is_due_elsewhere, opens_at) == (0, NOON + FIRST_PROBE_WAIT + LONGEST_PROBE_WAIT)
    assert await world.second.reserve_probe()


async def test_failed_probe_delays_next_probe_of_all_replicas(world: World) -> None:
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.reserve_probe()
    await world.first.judge(1, REFUSED, is_probe=True)
    await world.refresh()

    assert world.second.next_capacity_at() == NOON + FIRST_PROBE_WAIT + 2 * FIRST_PROBE_WAIT
    assert not await world.second.reserve_probe()


async def test_released_probe_may_be_made_by_another_replica(world: World) -> None:
    """The replica that reserved the probe has no due member."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.reserve_probe()
    await world.first.release_probe()

    assert await world.second.reserve_probe()


async def test_releasing_probe_does_not_reopen_closed_breaker(world: World) -> None:
    """Another replica closed the breaker before the release."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.reserve_probe()
    await world.second.restore()
    await world.second.judge(1, None, is_probe=True)
    await world.first.release_probe()

    assert world.store.state == BreakerState(was_open_for=FIRST_PROBE_WAIT)
    assert not world.first.is_open


async def test_state_that_could_not_be_saved_is_saved_with_next_read(
    world: World, log: list[MutableMapping[str, Any]]
) -> None:
    """The alarm is raised once, before the state is saved.

    If no call is in flight, only a read can save the state that a probe needs.
    """
    world.store.is_unavailable = True
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.first.refresh()
    logged = events(log)
    is_open, unsaved = world.first.is_open, world.store.state
    world.store.is_unavailable = False
    await world.refresh()
    await world.refresh()

    assert logged == [
        NOT_SAVED,
        RAISED,
        NOT_SAVED,
    ]
    assert (is_open, unsaved) == (True, BreakerState())
    assert world.store.state == world.second.state == BreakerState().opened(OpenReason.REFUSED, REFUSED, NOON)
    assert events(log)[3:] == [CHANGED_ELSEWHERE]
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.reserve_probe()


async def test_state_that_could_not_be_saved_is_saved_with_next_call(world: World) -> None:
    world.store.is_unavailable = True
    await world.first.judge(1, REFUSED, is_probe=False)
    world.store.is_unavailable = False
    await world.first.judge(2, REFUSED, is_probe=False)

    assert world.store.state == BreakerState().opened(OpenReason.REFUSED, REFUSED, NOON)


async def test_late_save_does_not_undo_changes_by_other_replicas(world: World) -> None:
    """An opening during the outage of the store counts for the retry clock, but does not close a newer opening."""
    world.store.is_unavailable = True
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(MINUTE)
    await world.first.judge(1, None, is_probe=True)
    world.store.is_unavailable = False
    await world.second.judge(2, REFUSED, is_probe=False)
    await world.first.judge(3, None, is_probe=False)

    opened = BreakerState().opened(OpenReason.REFUSED, REFUSED, NOON + MINUTE)
    assert world.store.state == world.first.state == replace(opened, was_open_for=MINUTE)


async def test_open_breaker_is_probed_at_once_after_start(world: World, log: list[MutableMapping[str, Any]]) -> None:
    """The start raises the alarm again. The first replica makes the probe."""
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.second.restore()
    await world.refresh()

    assert [breaker.capacity(0).calls for breaker in (world.first, world.second)] == [1, 1]
    assert [await world.first.reserve_probe(), await world.second.reserve_probe()] == [True, False]
    assert events(log) == [RAISED, RAISED]


async def test_without_store_no_call_leaves(world: World) -> None:
    world.store.is_unavailable = True

    with pytest.raises(StoreUnavailable):
        await world.first.prepare(0, has_backlog=True, is_backfill=False)
    with pytest.raises(StoreUnavailable):
        await world.first.reserve_probe()
