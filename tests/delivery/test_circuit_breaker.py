"""The gate of one account where several replicas call for it: what they find out together, and who tells it."""

from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.delivery.circuit_breaker import LOOK_EVERY, CircuitBreaker
from app.domain.account import FIRST_PROBE_WAIT, LONGEST_PROBE_WAIT, BreakerState, OpenReason, reconciled
from app.domain.errors import CredentialsRefused, StoreUnavailable
from tests.factories import ACCOUNT, HOUR, MINUTE, NOON, Clock

REFUSED = CredentialsRefused(5, "Wrong signature.")
PAUSED, RESUMED, FOUND = (
    "the account is paused",
    "the account runs again",
    "another replica found how the account stands",
)


class Store:
    """How the account stands, in memory."""

    def __init__(self) -> None:
        self.standing = BreakerState()
        self.looks = 0
        self.is_away = False

    async def load(self, account: str) -> BreakerState:
        self._reached(account)
        self.looks += 1
        return self.standing

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        self._reached(account)
        stored, self.standing = self.standing, reconciled(self.standing, before, after, now)
        return stored, self.standing

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        self._reached(account)
        if self.standing.pause is None or self.standing.probes_at(now) > now:
            return None
        self.standing = replace(self.standing, probe_at=until)
        return self.standing

    def _reached(self, account: str) -> None:
        assert account == ACCOUNT
        if self.is_away:
            raise StoreUnavailable("The database is away.")


class World:
    """Two replicas."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.store = clock, Store()
        self.first, self.second = (
            CircuitBreaker(ACCOUNT, self.store, clock, concurrency=4, is_shared=True) for _ in range(2)
        )

    async def look(self, *, after: timedelta = LOOK_EVERY) -> None:
        """Both look again."""
        self.clock.advance(after)
        for gate in (self.first, self.second):
            await gate.prepare(0, has_backlog=False, is_backfill=False)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, in its order."""
    with capture_logs() as lines:
        yield lines


def events(log: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in log]


async def test_others_findings_are_looked_at_once_a_second(world: World) -> None:
    """However often the loop goes round."""
    for _ in range(10):
        await world.look(after=LOOK_EVERY / 5)

    assert world.store.looks == 2 * 2


async def test_a_clock_that_is_set_back_does_not_put_the_next_look_off(world: World) -> None:
    await world.look()
    await world.look(after=-HOUR)

    assert world.store.looks == 2 * 2


async def test_an_account_that_nobody_shares_is_not_looked_at(clock: Clock) -> None:
    store = Store()
    gate = CircuitBreaker(ACCOUNT, store, clock, concurrency=4)
    await gate.prepare(0, has_backlog=False, is_backfill=False)

    assert await gate.may_probe()
    assert store.looks == 0


async def test_what_one_finds_counts_for_all(world: World, log: list[MutableMapping[str, Any]]) -> None:
    """Who found it raises the alarm, and whoever ended it tells that; the other one only notes it."""
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.look()
    paused = [gate.room(0).is_probe for gate in (world.first, world.second)]
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.second.may_probe()
    await world.second.judge(1, None, is_probe=True)
    await world.look()

    assert paused == [True, True]
    assert [gate.room(0).calls for gate in (world.first, world.second)] == [4, 4]
    assert events(log) == [PAUSED, FOUND, RESUMED, FOUND]


async def test_what_two_find_at_the_same_time_is_one_alarm(world: World, log: list[MutableMapping[str, Any]]) -> None:
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.second.judge(2, REFUSED, is_probe=False)
    await world.look()

    assert events(log) == [PAUSED]
    assert world.first.standing == world.second.standing == BreakerState().paused(OpenReason.REFUSED, REFUSED, NOON)


async def test_one_of_all_replicas_makes_the_probe(world: World) -> None:
    """It is held for as long as the longest wait, should its replica die."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    await world.look(after=timedelta(0))
    is_due = [gate.room(0).calls for gate in (world.first, world.second)]
    probes = [await world.first.may_probe(), await world.second.may_probe()]
    await world.second.prepare(0, has_backlog=False, is_backfill=False)
    is_due_elsewhere, opens_at = world.second.room(0).calls, world.second.opens_at()
    await world.look(after=LONGEST_PROBE_WAIT)

    assert is_due == [1, 1]
    assert probes == [True, False]
    assert (is_due_elsewhere, opens_at) == (0, NOON + FIRST_PROBE_WAIT + LONGEST_PROBE_WAIT)
    assert await world.second.may_probe()


async def test_a_probe_in_vain_puts_the_next_one_off_for_all(world: World) -> None:
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.may_probe()
    await world.first.judge(1, REFUSED, is_probe=True)
    await world.look()

    assert world.second.opens_at() == NOON + FIRST_PROBE_WAIT + 2 * FIRST_PROBE_WAIT
    assert not await world.second.may_probe()


async def test_a_probe_that_is_left_may_be_made_by_another_replica(world: World) -> None:
    """The one that took it has nobody to call for."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.may_probe()
    await world.first.leave_probe()

    assert await world.second.may_probe()


async def test_a_probe_is_not_left_in_a_pause_that_is_over(world: World) -> None:
    """A call of another replica has ended it meanwhile."""
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.may_probe()
    await world.second.open()
    await world.second.judge(1, None, is_probe=True)
    await world.first.leave_probe()

    assert world.store.standing == BreakerState(paused_for=FIRST_PROBE_WAIT)
    assert not world.first.is_paused


async def test_a_standing_that_could_not_be_saved_is_saved_later(
    world: World, log: list[MutableMapping[str, Any]]
) -> None:
    """With the next look: no call may be left whose end would save it, and a probe of a pause that is not stored is
    nobody's. The alarm is told at once, and once.
    """
    world.store.is_away = True
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.first.look()
    confirmed = events(log)
    is_paused, unsaved = world.first.is_paused, world.store.standing
    world.store.is_away = False
    await world.look()
    await world.look()

    assert confirmed == [
        "the account's standing could not be saved",
        PAUSED,
        "the account's standing could not be saved",
    ]
    assert (is_paused, unsaved) == (True, BreakerState())
    assert world.store.standing == world.second.standing == BreakerState().paused(OpenReason.REFUSED, REFUSED, NOON)
    assert events(log)[3:] == [FOUND]
    world.clock.advance(FIRST_PROBE_WAIT)
    assert await world.first.may_probe()


async def test_what_could_not_be_saved_is_saved_with_the_next_call_that_ends(world: World) -> None:
    """Also where nobody looks before."""
    world.store.is_away = True
    await world.first.judge(1, REFUSED, is_probe=False)
    world.store.is_away = False
    await world.first.judge(2, REFUSED, is_probe=False)

    assert world.store.standing == BreakerState().paused(OpenReason.REFUSED, REFUSED, NOON)


async def test_what_could_not_be_saved_does_not_undo_what_others_found(world: World) -> None:
    """A pause that was over before the store was back counts for the running clock, and ends no other."""
    world.store.is_away = True
    await world.first.judge(1, REFUSED, is_probe=False)
    world.clock.advance(MINUTE)
    await world.first.judge(1, None, is_probe=True)
    world.store.is_away = False
    await world.second.judge(2, REFUSED, is_probe=False)
    await world.first.judge(3, None, is_probe=False)

    paused = BreakerState().paused(OpenReason.REFUSED, REFUSED, NOON + MINUTE)
    assert world.store.standing == world.first.standing == replace(paused, paused_for=MINUTE)


async def test_a_replica_that_starts_lets_a_paused_account_be_probed_at_once(
    world: World, log: list[MutableMapping[str, Any]]
) -> None:
    """By whichever is first."""
    await world.first.judge(1, REFUSED, is_probe=False)
    await world.second.open()
    await world.look()

    assert [gate.room(0).calls for gate in (world.first, world.second)] == [1, 1]
    assert [await world.first.may_probe(), await world.second.may_probe()] == [True, False]
    assert events(log) == [PAUSED, "the account is still paused, as before the restart"]


async def test_without_the_store_nobody_knows_how_the_account_stands(world: World) -> None:
    """So no call leaves."""
    world.store.is_away = True

    with pytest.raises(StoreUnavailable):
        await world.first.prepare(0, has_backlog=True, is_backfill=False)
    with pytest.raises(StoreUnavailable):
        await world.first.may_probe()
