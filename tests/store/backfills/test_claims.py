"""Claims of backfills: one worker at a time, and a new token for each claim."""

import pytest

from app.store.backfills.backfills import Backfills
from app.store.database.engine import Database
from tests.factories import HOUR, MINUTE, NOON, SECOND, Clock
from tests.store.conftest import Running


@pytest.fixture
async def backfills(database: Database, clock: Clock, running: Running) -> Backfills:
    """Two active backfills, of two exports."""
    found = Backfills(database, clock)
    for audience in "AB":
        export = await running(audience)
        await found.open(export.id, is_dry_run=False)
    return found


async def test_each_claimed_backfill_gets_its_own_token(backfills: Backfills) -> None:
    claims = await backfills.claim(lease_for=MINUTE, limit=9)

    assert [claim.backfill.id for claim in claims] == [1, 2]
    assert len({claim.lease for claim in claims}) == 2
    assert await backfills.claim(lease_for=MINUTE, limit=9) == []


async def test_claim_after_the_end_of_a_lease_invalidates_the_former_token(backfills: Backfills, clock: Clock) -> None:
    (first,) = await backfills.claim(lease_for=MINUTE, limit=1)
    clock.advance(MINUTE)
    (second,) = await backfills.claim(lease_for=MINUTE, limit=1)

    assert first.backfill == second.backfill
    assert first.lease != second.lease
    assert not await backfills.renew(1, lease=first.lease, lease_for=MINUTE)
    assert not await backfills.save(first.backfill, lease=first.lease)
    assert await backfills.renew(1, lease=second.lease, lease_for=MINUTE)


async def test_claim_excludes_backfills_that_the_caller_runs(backfills: Backfills, clock: Clock) -> None:
    await backfills.claim(lease_for=MINUTE, limit=1)
    clock.advance(MINUTE)
    claims = await backfills.claim(lease_for=MINUTE, limit=9, excluding=[1])

    assert [claim.backfill.id for claim in claims] == [2]


async def test_released_backfill_can_be_claimed_at_once(backfills: Backfills) -> None:
    (first,) = await backfills.claim(lease_for=MINUTE, limit=1)
    await backfills.release(1, lease=first.lease)
    (second,) = await backfills.claim(lease_for=MINUTE, limit=1)

    assert second.backfill.id == 1


async def test_lease_of_a_wrong_clock_does_not_hold_a_backfill(backfills: Backfills, clock: Clock) -> None:
    clock.now = NOON + HOUR
    await backfills.claim(lease_for=MINUTE, limit=1)
    clock.now = NOON
    claims = await backfills.claim(lease_for=MINUTE, limit=1, excluding=[])

    assert [claim.backfill.id for claim in claims] == [1]


async def test_lease_from_a_clock_that_is_slightly_ahead_holds(backfills: Backfills, clock: Clock) -> None:
    await backfills.claim(lease_for=MINUTE, limit=1)
    clock.advance(-SECOND)
    claims = await backfills.claim(lease_for=MINUTE, limit=9)

    assert [claim.backfill.id for claim in claims] == [2]
