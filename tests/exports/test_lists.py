"""Making lists: once for all who want one, whoever they are and whatever becomes of them."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from app.domain.errors import CredentialsRefused, NotSent, OutcomeUnknown, StoreUnavailable, Transient, UnknownList
from app.exports.lists import LOOK_AGAIN, ListMaker
from tests.factories import ACCOUNT, LIST, NOON, SECOND
from tests.virtual_time import LoopClock, run

TIMEOUT = 15 * SECOND
OTHER = "Lytics Autumn Buyers"


@dataclass(frozen=True)
class Turn:
    is_ours: bool
    is_ready: bool


class Sailthru:
    """Its lists. A question takes a second; the list is made half a second before its answer is there."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.asked: list[str] = []
        self.errors: list[Exception] = []

    async def find_or_make(self, name: str) -> str | None:
        self.asked.append(name)
        is_there = name in self.made
        await asyncio.sleep(0.5)
        if self.errors:
            await asyncio.sleep(0.5)
            raise self.errors.pop(0)
        if not is_there:
            self.made.append(name)
        await asyncio.sleep(0.5)
        return "list-id"


@dataclass
class Store:
    """What replicas agree on of the lists, in memory."""

    clock: LoopClock
    ready: set[str] = field(default_factory=set)
    turns: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    ids: list[str | None] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    given_back: int = 0
    is_away: bool = False

    async def take_turn(self, account: str, name: str, *, lease: int, lease_for: timedelta, is_again: bool) -> Turn:
        assert (account, lease_for) == (ACCOUNT, 3 * TIMEOUT)
        if self.errors:
            raise self.errors.pop(0)
        if name in self.ready and not is_again:
            return Turn(is_ours=False, is_ready=True)
        holder, until = self.turns.get(name, (lease, NOON))
        if holder != lease and self.clock() < until:
            return Turn(is_ours=False, is_ready=False)
        self.turns[name] = (lease, self.clock() + lease_for)
        return Turn(is_ours=True, is_ready=False)

    async def give_turn_back(self, account: str, name: str, *, lease: int) -> None:
        assert account == ACCOUNT
        if self.is_away:
            raise StoreUnavailable("The database is away.")
        if self.turns.get(name, (None,))[0] == lease:
            self.given_back += 1
            del self.turns[name]

    async def list_is_ready(self, account: str, name: str, list_id: str | None) -> None:
        assert account == ACCOUNT
        if self.is_away:
            raise StoreUnavailable("The database is away.")
        self.ready.add(name)
        self.ids.append(list_id)


class World:
    """Replicas that share a store and an account."""

    def __init__(self, *, replicas: int = 1) -> None:
        self.clock = LoopClock(NOON)
        self.sailthru, self.store = Sailthru(), Store(self.clock)
        self.makers = [ListMaker(ACCOUNT, self.sailthru, self.store, timeout=TIMEOUT) for _ in range(replicas)]
        self.seconds = 0.0

    def at_end(self) -> "World":
        """To look at when the loop is over."""
        self.seconds = (self.clock() - NOON) / SECOND
        return self


def test_a_list_is_made_and_all_know_it() -> None:
    async def work() -> World:
        world = World()
        for _ in range(3):
            await world.makers[0].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert (world.sailthru.asked, world.sailthru.made) == ([LIST], [LIST])
    assert world.store.ids == ["list-id"]
    assert world.store.turns == {}


def test_a_list_that_is_ready_is_asked_for_only_again() -> None:
    """When Sailthru has said that it does not know it any more."""

    async def work() -> World:
        world = World()
        world.store.ready.add(LIST)
        await world.makers[0].ensure(LIST)
        await world.makers[0].ensure(LIST, is_again=True)
        return world.at_end()

    world = run(work())

    assert world.sailthru.made == [LIST]
    assert world.seconds == pytest.approx(1)


def test_many_callers_share_one_question() -> None:
    """First calls side by side have made several lists of one name at Sailthru."""

    async def work() -> World:
        world = World()
        await asyncio.gather(*(world.makers[0].ensure(name) for name in [LIST, OTHER] * 10))
        return world.at_end()

    world = run(work())

    assert sorted(world.sailthru.asked) == sorted([LIST, OTHER])
    assert world.seconds == pytest.approx(1)


def test_who_knows_that_the_list_is_gone_is_not_told_that_it_is_ready() -> None:
    """Somebody asks at the same moment who remembers it as ready."""

    async def work() -> World:
        world = World()
        world.store.ready.add(LIST)
        maker = world.makers[0]
        await asyncio.gather(maker.ensure(LIST), maker.ensure(LIST, is_again=True), maker.ensure(LIST, is_again=True))
        return world.at_end()

    assert run(work()).sailthru.asked == [LIST]


def test_a_cancelled_caller_does_not_disturb_the_others() -> None:
    async def work() -> tuple[World, bool]:
        world = World()
        first, second = (asyncio.create_task(world.makers[0].ensure(LIST)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        return world.at_end(), first.cancelled()

    world, is_cancelled = run(work())

    assert is_cancelled
    assert world.sailthru.asked == [LIST]
    assert world.store.ready == {LIST}


async def after_a_caller_who_left(world: World) -> None:
    """Somebody wants the list and goes away while it is made; later another one does."""
    caller = asyncio.create_task(world.makers[0].ensure(LIST))
    await asyncio.sleep(0.1)
    caller.cancel()
    await asyncio.sleep(2)
    await world.makers[0].ensure(LIST)


def test_it_is_made_although_nobody_waits_for_it_any_more() -> None:
    """The question goes on, and the next who wants the list finds it."""

    async def work() -> World:
        world = World()
        await after_a_caller_who_left(world)
        return world.at_end()

    world = run(work())

    assert world.sailthru.asked == [LIST]
    assert world.store.ready == {LIST}


@pytest.mark.parametrize(
    "error",
    [
        Transient(503, "Away."),
        NotSent("refused", "Refused."),
        UnknownList(99, "Sailthru does not make the list."),
        CredentialsRefused(5, "Wrong signature."),
        RuntimeError("a mistake"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_reaches_all_who_wait_and_gives_the_turn_back(error: Exception) -> None:
    """It is not remembered: whoever wants the list next asks at once."""

    async def work() -> tuple[World, list[BaseException | None]]:
        world = World(replicas=2)
        world.sailthru.errors = [error]
        outcomes = await asyncio.gather(*(world.makers[0].ensure(LIST) for _ in range(3)), return_exceptions=True)
        await world.makers[1].ensure(LIST)
        return world.at_end(), outcomes

    world, outcomes = run(work())

    assert outcomes == [error] * 3
    assert world.store.given_back == 2
    assert world.sailthru.made == [LIST]
    assert world.seconds == pytest.approx(2)


def test_a_failure_that_nobody_waits_for_any_more_is_not_kept_either() -> None:
    async def work() -> World:
        world = World()
        world.sailthru.errors = [Transient(503, "Away.")]
        await after_a_caller_who_left(world)
        return world.at_end()

    assert run(work()).store.ready == {LIST}


@pytest.mark.parametrize("is_again", [False, True])
def test_another_replica_waits_for_its_turn(is_again: bool) -> None:
    """It looks again until the list is ready, or until it is its own turn: two never ask side by side."""

    async def work() -> World:
        world = World(replicas=3)
        await asyncio.gather(*(maker.ensure(LIST, is_again=is_again) for maker in world.makers))
        return world.at_end()

    world = run(work())

    assert world.sailthru.made == [LIST]
    assert len(world.sailthru.asked) == (3 if is_again else 1)
    assert world.seconds <= (3 if is_again else 1) * (1 + LOOK_AGAIN / SECOND)


@pytest.mark.parametrize("who", [0, 1], ids=["itself", "another replica"])
def test_an_unknown_outcome_keeps_the_turn_until_it_lapses(who: int) -> None:
    """Sailthru may still make the list: whoever looks before that is over, and finds nothing, would make a second
    one.
    """

    async def work() -> World:
        world = World(replicas=2)
        world.sailthru.errors = [OutcomeUnknown("timeout", "No answer.")]
        with pytest.raises(OutcomeUnknown):
            await world.makers[0].ensure(LIST)
        await world.makers[who].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert world.sailthru.asked == [LIST, LIST]
    assert 3 * TIMEOUT / SECOND <= world.seconds - 1 <= 3 * TIMEOUT / SECOND + LOOK_AGAIN / SECOND


def test_a_replica_that_stops_in_the_middle_keeps_the_turn_too() -> None:
    """Its request has left; whether the list is made then, nobody knows."""

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

    assert world.store.given_back == 1
    assert world.seconds > 3 * TIMEOUT / SECOND


def test_a_store_that_is_away_is_told_to_who_waits() -> None:
    """Whose turn it is can't be known, so nothing is asked."""

    async def work() -> World:
        world = World()
        world.store.errors = [StoreUnavailable("The database is away.")]
        with pytest.raises(StoreUnavailable):
            await world.makers[0].ensure(LIST)
        return world.at_end()

    assert run(work()).sailthru.asked == []


def test_a_list_that_could_not_be_remembered_is_found_later() -> None:
    """The turn can't be given back either, and lapses."""

    async def work() -> World:
        world = World(replicas=2)
        world.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await world.makers[0].ensure(LIST)
        world.store.is_away = False
        await world.makers[1].ensure(LIST)
        return world.at_end()

    world = run(work())

    assert world.sailthru.made == [LIST]
    assert world.store.ready == {LIST}
    assert world.seconds > 3 * TIMEOUT / SECOND
