"""Chores: one replica does each of them, once in its time."""

import asyncio

from app.store.database.engine import Database
from app.store.replicas.chores import Chores
from tests.factories import HOUR, MINUTE, SECOND, Clock


async def test_one_of_many_has_the_turn_until_it_is_due_again(database: Database, clock: Clock) -> None:
    chores = Chores(database, clock)
    first = await asyncio.gather(*(chores.take_turn("house", HOUR) for _ in range(8)))
    clock.advance(HOUR - SECOND)
    early = await chores.take_turn("house", HOUR)
    clock.advance(SECOND)
    later = await asyncio.gather(*(Chores(database, clock).take_turn("house", HOUR) for _ in range(8)))

    assert sorted(first) == sorted(later) == [False] * 7 + [True]
    assert not early


async def test_each_chore_has_its_own_time(database: Database, clock: Clock) -> None:
    chores = Chores(database, clock)
    await chores.take_turn("house", HOUR)

    assert await chores.take_turn("lists", MINUTE)
    clock.advance(MINUTE)
    assert await chores.take_turn("lists", MINUTE)
    assert not await chores.take_turn("house", HOUR)


async def test_a_turn_that_a_wrong_clock_has_taken_keeps_nobody_waiting(database: Database, clock: Clock) -> None:
    """It lies further ahead than a turn can."""
    chores = Chores(database, clock)
    clock.advance(30 * HOUR)
    await chores.take_turn("house", HOUR)
    clock.advance(-30 * HOUR)

    assert await chores.take_turn("house", HOUR)
    assert not await chores.take_turn("house", HOUR)


async def test_who_looked_at_its_clock_a_moment_earlier_has_no_turn(database: Database, clock: Clock) -> None:
    """It has waited for the row since, while another one took the turn."""
    chores = Chores(database, clock)
    clock.advance(SECOND)
    await chores.take_turn("house", MINUTE)
    clock.advance(-SECOND)

    assert not await chores.take_turn("house", MINUTE)
