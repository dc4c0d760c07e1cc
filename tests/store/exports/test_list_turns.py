"""Turns to create a list."""

import asyncio
from datetime import timedelta

import pytest

from app.domain.export import ListTurn
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from tests.factories import ACCOUNT, HOUR, LIST, NOON, SECOND, Clock
from tests.store.conftest import Running

LEASE_FOR = 45 * SECOND
OURS, OTHERS = ListTurn(is_ours=True, is_ready=False), ListTurn(is_ours=False, is_ready=False)
READY = ListTurn(is_ours=False, is_ready=True)


@pytest.fixture
async def missing(exports: Exports) -> Exports:
    """Return exports with one named export, whose list does not exist yet."""
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await exports.name(export.id, "Spring Buyers", "Lytics Spring Buyers")
    return exports


async def take(exports: Exports, lease: int, *, is_missing: bool = False, account: str = ACCOUNT) -> ListTurn:
    return await exports.take_turn(account, LIST, lease=lease, lease_for=LEASE_FOR, is_missing=is_missing)


async def test_one_of_many_gets_the_turn(missing: Exports) -> None:
    turns = await asyncio.gather(*(take(missing, lease) for lease in range(8)))

    assert [turn for turn in turns if turn.is_ours] == [OURS]
    assert [turn for turn in turns if not turn.is_ours] == [OTHERS] * 7


async def test_holder_can_take_its_turn_again_and_extends_it(missing: Exports, clock: Clock) -> None:
    await take(missing, 1)
    clock.advance(SECOND)
    again = await take(missing, 1)
    clock.advance(LEASE_FOR - timedelta(microseconds=1))
    before_its_end = await take(missing, 2)
    clock.advance(timedelta(microseconds=1))
    at_its_end = await take(missing, 2)

    assert (again, before_its_end, at_its_end) == (OURS, OTHERS, OURS)


@pytest.mark.parametrize("passed", [LEASE_FOR, -HOUR], ids=["lapsed", "taken by a wrong clock"])
async def test_ended_turn_and_turn_of_a_wrong_clock_are_taken_over(
    missing: Exports, clock: Clock, passed: timedelta
) -> None:
    await take(missing, 1)
    clock.advance(LEASE_FOR - SECOND)
    before = await take(missing, 2)
    clock.now = NOON + passed
    after = await take(missing, 2)

    assert (before.is_ours, after.is_ours) == (False, True)


async def test_turn_from_a_clock_slightly_ahead_holds(missing: Exports, clock: Clock) -> None:
    clock.advance(SECOND)
    await take(missing, 1)
    clock.advance(-SECOND)

    assert not (await take(missing, 2)).is_ours


async def test_only_the_holder_releases_the_turn(missing: Exports) -> None:
    await take(missing, 1)
    await missing.release_turn(ACCOUNT, LIST, lease=2)
    still = await take(missing, 3)
    await missing.release_turn(ACCOUNT, LIST, lease=1)

    assert still == OTHERS
    assert await take(missing, 3) == OURS


async def test_ready_list_needs_no_turn_unless_sailthru_no_longer_knows_it(missing: Exports) -> None:
    await take(missing, 1)
    await missing.mark_list_ready(ACCOUNT, LIST, "list-id")
    ready = await take(missing, 2)
    again_meanwhile = await take(missing, 2, is_missing=True)
    await missing.release_turn(ACCOUNT, LIST, lease=1)

    assert (ready, again_meanwhile) == (READY, OTHERS)
    assert await take(missing, 2, is_missing=True) == OURS


async def test_list_without_an_export_counts_as_ready(missing: Exports, running: Running) -> None:
    await running("Autumn Buyers")

    assert await take(missing, 1, account="other") == READY
    assert await missing.take_turn(ACCOUNT, "Lytics Gone", lease=1, lease_for=LEASE_FOR, is_missing=True) == READY


async def test_each_list_has_its_own_turn(missing: Exports, database: Database, clock: Clock) -> None:
    other = Exports(database, clock)
    export = await other.start("B", audience_slug="b", account=ACCOUNT)
    await other.name(export.id, "Autumn Buyers", "Lytics Autumn Buyers")
    await take(missing, 1)

    assert (
        await other.take_turn(ACCOUNT, "Lytics Autumn Buyers", lease=2, lease_for=LEASE_FOR, is_missing=False) == OURS
    )
