"""The backfill loop: each backfill runs in one task, also while the store is unavailable."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from app.backfills.loop import LEASE, POLL_INTERVAL, RENEW_EVERY, BackfillLoop
from app.backfills.scan import Backfiller, Step
from app.domain.backfill import Backfill, BackfillClaim, BackfillState, Page
from app.domain.errors import StoreUnavailable
from tests.factories import NOON, SECOND
from tests.virtual_time import LoopClock, run

STEP = 40 * SECOND


class Store:
    """Backfills in memory."""

    def __init__(self, clock: LoopClock, *ids: int) -> None:
        self.clock = clock
        self.backfills = {n: Backfill(n, n, is_dry_run=False, state=BackfillState.QUEUED, created_at=NOON) for n in ids}
        self.leases: dict[int, tuple[int, datetime]] = {}
        self.tokens = count(1)
        self.claimed: list[tuple[int, int]] = []
        self.cannot_renew = False

    async def claim(self, *, lease_for: timedelta, limit: int, excluding: Collection[int]) -> list[BackfillClaim]:
        now = self.clock()
        free = [
            backfill
            for backfill in self.backfills.values()
            if backfill.is_active and backfill.id not in excluding and self.leases.get(backfill.id, (0, now))[1] <= now
        ]
        claims = [BackfillClaim(backfill, next(self.tokens)) for backfill in free[:limit]]
        self.leases |= {claim.backfill.id: (claim.lease, now + lease_for) for claim in claims}
        self.claimed += [(claim.backfill.id, claim.lease) for claim in claims]
        return claims

    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool:
        if self.cannot_renew:
            raise StoreUnavailable("The database is unavailable.")
        if self.leases[backfill_id][0] != lease:
            return False
        self.leases[backfill_id] = (lease, self.clock() + lease_for)
        return True

    async def release(self, backfill_id: int, *, lease: int) -> None:
        if self.leases[backfill_id][0] == lease:
            del self.leases[backfill_id]

    async def save(self, backfill: Backfill, *, lease: int) -> bool:
        is_ours = self.leases[backfill.id][0] == lease
        if is_ours:
            self.backfills[backfill.id] = backfill
        return is_ours

    async def save_page(self, backfill: Backfill, page: Page, *, lease: int) -> None:
        raise AssertionError("These steps read no page.")

    async def delete_ended_dry_runs(self) -> bool:
        return False


class Steps(Backfiller):
    """A fake whose first step takes `STEP` and completes the backfill."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.begun: list[int] = []

    async def step(self, backfill: Backfill, *, lease: int, failures: int = 0) -> Step:
        self.begun.append(backfill.id)
        await asyncio.sleep(STEP.total_seconds())
        done = replace(backfill, state=BackfillState.COMPLETED)
        return Step(done if await self.store.save(done, lease=lease) else None)


class World:
    def __init__(self, *ids: int) -> None:
        self.store = Store(LoopClock(NOON), *ids)
        self.steps = Steps(self.store)
        self.loop = BackfillLoop(self.store, self.steps)

    async def run_for(self, time: timedelta) -> None:
        running = asyncio.create_task(self.loop.run())
        await asyncio.sleep(time.total_seconds())
        self.loop.stop()
        await running


def test_each_claim_has_its_own_token_and_is_released() -> None:
    async def work() -> World:
        world = World(1, 2, 3)
        await world.run_for(2 * STEP)
        return world

    world = run(work())

    assert world.store.claimed == [(1, 1), (2, 2), (3, 3)]
    assert world.steps.begun == [1, 2, 3]
    assert world.store.leases == {}


def test_running_backfill_is_not_claimed_again_after_its_lease_expired() -> None:
    async def work() -> World:
        world = World(1)
        world.store.cannot_renew = True
        await world.run_for(STEP - SECOND)
        return world

    assert LEASE < POLL_INTERVAL < STEP
    world = run(work())

    assert world.store.claimed == [(1, 1)]
    assert world.steps.begun == [1]


def test_lease_that_expired_in_an_outage_is_renewed_afterwards() -> None:
    async def work() -> World:
        world = World(1)
        world.store.cannot_renew = True
        running = asyncio.create_task(world.run_for(2 * STEP))
        await asyncio.sleep((LEASE + RENEW_EVERY / 2).total_seconds())
        world.store.cannot_renew = False
        await running
        return world

    world = run(work())

    assert world.store.claimed == [(1, 1)]
    assert world.store.backfills[1].state is BackfillState.COMPLETED


def test_backfill_claimed_by_another_process_is_not_saved() -> None:
    async def work() -> World:
        world = World(1)
        running = asyncio.create_task(world.run_for(STEP + SECOND))
        await asyncio.sleep(1)
        world.store.leases[1] = (99, NOON + 10 * STEP)
        await running
        return world

    world = run(work())

    assert world.steps.begun == [1]
    assert world.store.backfills[1].state is BackfillState.QUEUED
    assert world.store.leases[1] == (99, NOON + 10 * STEP)
