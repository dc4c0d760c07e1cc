"""Chores: one replica takes each turn."""

import asyncio

from app.store.database.engine import Database
from app.store.replicas.chores import Chores
from tests.factories import HOUR, MINUTE, SECOND, Clock


async def test_one_of_many_replicas_takes_turn_until_next_is_due(database: Database, clock: Clock) -> None:
    chores = Chores(database, clock)
    first = await asyncio.gather(*(chores.take_turn("house", HOUR) for _ in range(8)))
    clock.advance(HOUR - SECOND)
    early = await chores.take_turn("house", HOUR)
    clock.advance(SECOND)
    later = await asyncio.gather(*(Chores(database, clock).take_turn("house", HOUR) for _ in range(8)))

    assert sorted(first) == sorted(later) == [False] * 7 + [True]
    assert not early


async def test_each_chore_has_its_own_turns(database: Database, clock: Clock) -> None:
    chores = Chores(database, clock)
    await chores.take_turn("house", HOUR)

    assert await chores.take_turn("lists", MINUTE)
    clock.advance(MINUTE)
    assert await chores.take_turn("lists", MINUTE)
    assert not await chores.take_turn("house", HOUR)


async def test_turn_taken_by_wrong_clock_does_not_count(database: Database, clock: Clock) -> None:
    """The time of the turn is further ahead than any possible wait."""
    chores = Chores(database, clock)
    clock.advance(30 * HOUR)
    await chores.take_turn("house", HOUR)
    clock.advance(-30 * HOUR)

    assert await chores.take_turn("house", HOUR)
    assert not await chores.take_turn("house", HOUR)


async def test_replica_that_read_its_clock_earlier_gets_no_turn(database: Database, clock: Clock) -> None:
    """The replica waited for the row while another one took the turn."""
    chores = Chores(database, clock)
    clock.advance(SECOND)
    await chores.take_turn("house", MINUTE)
    clock.advance(-SECOND)

    assert not await chores.take_turn("house", MINUTE)
