"""The background loop of backfills: claims them, runs each in its own task and releases them on shutdown.

A lease is renewed while its backfill runs. After a crash the lease expires, and another worker continues after the last
stored page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog

from app.backfills.needs import Backfills
from app.backfills.scan import Backfiller
from app.domain.backfill import Backfill, BackfillClaim
from app.domain.errors import StoreUnavailable
from app.repeat import Repeat

log = structlog.get_logger(__name__)

MAX_RUNNING = 8
LEASE = timedelta(seconds=15)
RENEW_EVERY = timedelta(seconds=5)
STORE_RETRY_WAIT = timedelta(seconds=2)
# How often to check for backfills of a crashed process. A new backfill wakes the loop at once.
POLL_INTERVAL = timedelta(seconds=30)


class BackfillLoop(Repeat):
    """Runs all backfills of this process."""

    def __init__(
        self,
        backfills: Backfills,
        backfiller: Backfiller,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__("backfills", self._claim, retry_after=POLL_INTERVAL)
        self._backfills = backfills
        self._backfiller = backfiller
        self._sleep = sleep
        self._running: dict[int, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Stop the loop and cancel all running backfills."""
        super().stop()
        for task in self._running.values():
            task.cancel()

    async def run(self) -> None:
        """Run until the loop is stopped and every backfill is released."""
        await super().run()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _claim(self) -> timedelta:
        await self._start_backfills()
        if not self._running:
            while await self._backfills.delete_ended_dry_runs():
                pass
        return POLL_INTERVAL

    async def _start_backfills(self) -> None:
        most = MAX_RUNNING - len(self._running)
        if not most:
            return
        # Leases of running tasks may have expired while the store was unavailable, so exclude the running backfills.
        for claim in await self._backfills.claim(lease_for=LEASE, limit=most, excluding=tuple(self._running)):
            task = asyncio.create_task(self._run_claim(claim))
            self._running[claim.backfill.id] = task
            task.add_done_callback(partial(self._on_end, claim.backfill.id))

    def _on_end(self, backfill_id: int, _: asyncio.Task[None]) -> None:
        del self._running[backfill_id]
        self.wake()

    async def _run_claim(self, claim: BackfillClaim) -> None:
        backfill_id = claim.backfill.id
        renewing = asyncio.create_task(self._renew(claim))
        try:
            await self._run_pages(claim)
        except Exception:
            # A bug in one backfill must not end the others. The backfill is claimed again when its lease expires.
            log.exception("backfill failed", backfill=backfill_id)
            return
        finally:
            renewing.cancel()
        with suppress(StoreUnavailable):
            await self._backfills.release(backfill_id, lease=claim.lease)

    async def _run_pages(self, claim: BackfillClaim) -> None:
        failures = 0
        current: Backfill | None = claim.backfill
        with suppress(asyncio.CancelledError):
            while current is not None and current.is_active and not self.is_stopped:
                try:
                    step = await self._backfiller.step(current, lease=claim.lease, failures=failures)
                except StoreUnavailable as error:
                    log.warning("store unavailable, backfill waits", backfill=current.id, why=str(error))
                    await self._sleep(STORE_RETRY_WAIT.total_seconds())
                    continue
                failures = failures + 1 if step.wait else 0
                current = step.backfill
                await self._sleep(step.wait.total_seconds())

    async def _renew(self, claim: BackfillClaim) -> None:
        while True:
            await self._sleep(RENEW_EVERY.total_seconds())
            with suppress(StoreUnavailable):
                if not await self._backfills.renew(claim.backfill.id, lease=claim.lease, lease_for=LEASE):
                    return
