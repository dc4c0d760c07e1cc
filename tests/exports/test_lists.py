"""The list maker: each list is created once, also if callers are cancelled or requests fail."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.domain.errors import CredentialsRefused, NotSent, OutcomeUnknown, StoreUnavailable, Transient, UnknownList
from app.domain.export import ListTurn
from app.exports.lists import POLL_INTERVAL, ListMaker
from tests.factories import ACCOUNT, LIST, NOON, SECOND
from tests.virtual_time import LoopClock, run

TIMEOUT = 15 * SECOND
OTHER = "Lytics Autumn Buyers"


class Sailthru:
    """A fake with lists. A request takes a second; the list exists half a second before the answer arrives."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.requests: list[str] = []
        self.errors: list[Exception] = []

    async def find_or_create(self, name: str) -> str | None:
        self.requests.append(name)
        exists = name in self.created
        await asyncio.sleep(0.5)
        if self.errors:
            await asyncio.sleep(0.5)
            raise self.errors.pop(0)
        if not exists:
            self.created.append(name)
        await asyncio.sleep(0.5)
        return "list-id"


@dataclass
class Store:
    """A fake with ready lists and turns that all replicas share."""

    clock: LoopClock
    ready: set[str] = field(default_factory=set)
    turns: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    ids: list[str | None] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    released: int = 0
    is_unavailable: bool = False

    async def take_turn(
        self, account: str, name: str, *, lease: int, lease_for: timedelta, is_missing: bool
    ) -> ListTurn:
        assert (account, lease_for) == (ACCOUNT, 3 * TIMEOUT)
        if self.errors:
            raise self.errors.pop(0)
        if name in self.ready and not is_missing:
            return ListTurn(is_ours=False, is_ready=True)
        holder, until = self.turns.get(name, (lease, NOON))
        if holder != lease and self.clock() < until:
            return ListTurn(is_ours=False, is_ready=False)
        self.turns[name] = (lease, self.clock() + lease_for)
        return ListTurn(is_ours=True, is_ready=False)

    async def release_turn(self, account: str, name: str, *, lease: int) -> None:
        assert account == ACCOUNT
        if self.is_unavailable:
            raise StoreUnavailable("The database is unavailable.")
        if self.turns.get(name, (None,))[0] == lease:
            self.released += 1
            del self.turns[name]

    async def mark_list_ready(self, account: str, name: str, list_id: str | None) -> None:
        assert account == ACCOUNT
        if self.is_unavailable:
            raise StoreUnavailable("The database is unavailable.")
        self.ready.add(name)
        self.ids.append(list_id)


class World:
    """Replicas that share a store and an account."""

    def __init__(self, *, replicas: int = 1) -> None:
        self.clock = LoopClock(NOON)
        self.sailthru, self.store = Sailthru(), Store(self.clock)
        # The fakes implement only the methods that a list maker uses.
        sailthru: Any = self.sailthru
        store: Any = self.store
        self.makers = [ListMaker(ACCOUNT, sailthru, store, timeout=TIMEOUT) for _ in range(replicas)]
        self.seconds = 0.0

    def at_end(self) -> "World":
        """Record the elapsed time and return the world, for use after the loop has ended."""
        self.seconds = (self.clock() - NOON) / SECOND
        return self


def test_list_is_created_once_and_recorded() -> None:
    async def work() -> World:
        world = World()
        for _ in range(3):
            await world.makers[0].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert (world.sailthru.requests, world.sailthru.created) == ([LIST], [LIST])
    assert world.store.ids == ["list-id"]
    assert world.store.turns == {}


def test_ready_list_is_requested_only_if_sailthru_no_longer_knows_it() -> None:
    async def work() -> World:
        world = World()
        world.store.ready.add(LIST)
        await world.makers[0].ensure(LIST)
        await world.makers[0].ensure(LIST, is_missing=True)
        return world.at_end()

    world = run(work())

    assert world.sailthru.created == [LIST]
    assert world.seconds == pytest.approx(1)


def test_many_callers_share_one_request() -> None:
    async def work() -> World:
        world = World()
        await asyncio.gather(*(world.makers[0].ensure(name) for name in [LIST, OTHER] * 10))
        return world.at_end()

    world = run(work())

    assert sorted(world.sailthru.requests) == sorted([LIST, OTHER])
    assert world.seconds == pytest.approx(1)


def test_callers_with_and_without_missing_list_do_not_share_a_request() -> None:
    async def work() -> World:
        world = World()
        world.store.ready.add(LIST)
        maker = world.makers[0]
        await asyncio.gather(
            maker.ensure(LIST), maker.ensure(LIST, is_missing=True), maker.ensure(LIST, is_missing=True)
        )
        return world.at_end()

    assert run(work()).sailthru.requests == [LIST]


def test_cancelled_caller_does_not_affect_others() -> None:
    async def work() -> tuple[World, bool]:
        world = World()
        first, second = (asyncio.create_task(world.makers[0].ensure(LIST)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        return world.at_end(), first.cancelled()

    world, is_cancelled = run(work())

    assert is_cancelled
    assert world.sailthru.requests == [LIST]
    assert world.store.ready == {LIST}


async def after_a_cancelled_caller(world: World) -> None:
    """One caller is cancelled while the list is created; another one comes later."""
    caller = asyncio.create_task(world.makers[0].ensure(LIST))
    await asyncio.sleep(0.1)
    caller.cancel()
    await asyncio.sleep(2)
    await world.makers[0].ensure(LIST)


def test_request_continues_after_its_only_caller_is_cancelled() -> None:
    async def work() -> World:
        world = World()
        await after_a_cancelled_caller(world)
        return world.at_end()

    world = run(work())

    assert world.sailthru.requests == [LIST]
    assert world.store.ready == {LIST}


@pytest.mark.parametrize(
    "error",
    [
        Transient(503, "Away."),
        NotSent("refused", "Refused."),
        UnknownList(99, "Sailthru does not create the list."),
        CredentialsRefused(5, "Wrong signature."),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_reaches_all_callers_and_releases_the_turn(error: Exception) -> None:
    async def work() -> tuple[World, list[BaseException | None]]:
        world = World(replicas=2)
        world.sailthru.errors = [error]
        outcomes = await asyncio.gather(*(world.makers[0].ensure(LIST) for _ in range(3)), return_exceptions=True)
        await world.makers[1].ensure(LIST)
        return world.at_end(), outcomes

    world, outcomes = run(work())

    assert outcomes == [error] * 3
    assert world.store.released == 2
    assert world.sailthru.created == [LIST]
    assert world.seconds == pytest.approx(2)


def test_failure_without_a_waiting_caller_is_not_remembered() -> None:
    async def work() -> World:
        world = World()
        world.sailthru.errors = [Transient(503, "Away.")]
        await after_a_cancelled_caller(world)
        return world.at_end()

    assert run(work()).store.ready == {LIST}


@pytest.mark.parametrize("is_missing", [False, True])
def test_other_replicas_wait_for_the_list_or_their_turn(is_missing: bool) -> None:
    async def work() -> World:
        world = World(replicas=3)
        await asyncio.gather(*(maker.ensure(LIST, is_missing=is_missing) for maker in world.makers))
        return world.at_end()

    world = run(work())

    assert world.sailthru.created == [LIST]
    assert len(world.sailthru.requests) == (3 if is_missing else 1)
    assert world.seconds <= (3 if is_missing else 1) * (1 + POLL_INTERVAL / SECOND)


@pytest.mark.parametrize("next_caller", [0, 1], ids=["same replica", "another replica"])
def test_unknown_outcome_keeps_the_turn_until_its_lease_expires(next_caller: int) -> None:
    async def work() -> World:
        world = World(replicas=2)
        world.sailthru.errors = [OutcomeUnknown("timeout", "No answer.")]
        with pytest.raises(OutcomeUnknown):
            await world.makers[0].ensure(LIST)
        await world.makers[next_caller].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert world.sailthru.requests == [LIST, LIST]
    assert 3 * TIMEOUT / SECOND <= world.seconds - 1 <= 3 * TIMEOUT / SECOND + POLL_INTERVAL / SECOND


def test_replica_that_stops_during_its_request_keeps_the_turn_until_its_lease_expires() -> None:
    async def work() -> World:
        world = World(replicas=2)
        before = asyncio.all_tasks()
        caller = asyncio.create_task(world.makers[0].ensure(LIST))
        await asyncio.sleep(0.1)
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.wait({caller})
        await world.makers[1].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert world.store.released == 1
    assert world.seconds > 3 * TIMEOUT / SECOND


def test_without_the_store_no_request_is_made() -> None:
    async def work() -> World:
        world = World()
        world.store.errors = [StoreUnavailable("The database is unavailable.")]
        with pytest.raises(StoreUnavailable):
            await world.makers[0].ensure(LIST)
        return world.at_end()

    assert run(work()).sailthru.requests == []


def test_created_list_that_could_not_be_recorded_is_found_later() -> None:
    async def work() -> World:
        world = World(replicas=2)
        world.store.is_unavailable = True
        with pytest.raises(StoreUnavailable):
            await world.makers[0].ensure(LIST)
        world.store.is_unavailable = False
        await world.makers[1].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert world.sailthru.created == [LIST]
    assert world.store.ready == {LIST}
    assert world.seconds > 3 * TIMEOUT / SECOND
