"""The loop of backfills: one task for each, whatever becomes of the store meanwhile."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from app.backfills.loop import LEASE, LOOK_EVERY, RENEW_EVERY, BackfillLoop
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
            one
            for one in self.backfills.values()
            if one.is_active and one.id not in excluding and self.leases.get(one.id, (0, now))[1] <= now
        ]
        claims = [BackfillClaim(one, next(self.tokens)) for one in free[:limit]]
        self.leases |= {claim.backfill.id: (claim.lease, now + lease_for) for claim in claims}
        self.claimed += [(claim.backfill.id, claim.lease) for claim in claims]
        return claims

    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool:
        if self.cannot_renew:
            raise StoreUnavailable("The database is away.")
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
        raise NotImplementedError

    async def delete_ended_dry_runs(self) -> bool:
        return False


class Steps(Backfiller):
    """One step takes `STEP` and completes the backfill."""

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


def test_each_claim_has_a_token_of_its_own_and_is_released() -> None:
    async def work() -> World:
        world = World(1, 2, 3)
        await world.run_for(2 * STEP)
        return world

    world = run(work())

    assert world.store.claimed == [(1, 1), (2, 2), (3, 3)]
    assert world.steps.begun == [1, 2, 3]
    assert world.store.leases == {}


def test_lease_lost_in_an_outage_is_not_claimed_again_by_the_process_that_runs_it() -> None:
    async def work() -> World:
        world = World(1)
        world.store.cannot_renew = True
        await world.run_for(STEP - SECOND)
        return world

    assert LEASE < LOOK_EVERY < STEP
    world = run(work())

    assert world.store.claimed == [(1, 1)]
    assert world.steps.begun == [1]


def test_lease_that_ended_in_an_outage_is_renewed_afterwards() -> None:
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


def test_backfill_that_another_process_took_over_is_left_to_it() -> None:
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
