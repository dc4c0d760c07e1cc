"""Runs verb 3 in the background: holds backfills that are under way, goes on with each, gives them back on shutdown.

Each is held by a lease that is renewed while it runs, so that whoever comes after a crash goes on from its last page.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog

from app.backfills.scan import Step
from app.domain.backfill import Backfill
from app.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 8
LEASE = timedelta(seconds=15)
RENEW_EVERY = timedelta(seconds=5)
STORE_PAUSE = timedelta(seconds=2)
# A backfill of a process that died is looked for so often; a new one wakes the loop by itself.
LOOK_EVERY = timedelta(seconds=30)


class Backfills(Protocol):
    """Who holds which backfill."""

    async def claim(self, *, lease: int, lease_for: timedelta, most: int) -> list[Backfill]:
        """Hold backfills that nobody holds."""
        ...

    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool:
        """Hold one for longer; false if it is not ours any more."""
        ...

    async def let_go(self, backfill_id: int, *, lease: int) -> None:
        """Let somebody else hold it."""
        ...

    async def forget_dry_runs(self) -> bool:
        """Forget a slice of whom ended dry runs have counted."""
        ...


class Steps(Protocol):
    """Verb 3."""

    async def step(self, backfill: Backfill, *, lease: int, failures: int = 0) -> Step:
        """Bring the next page over."""
        ...


class BackfillLoop:
    """All backfills of this process.

    Args:
        sleep: waits so many seconds.
    """

    def __init__(
        self, backfills: Backfills, steps: Steps, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._backfills = backfills
        self._steps = steps
        self._sleep = sleep
        self._woken = asyncio.Event()
        self._stopping = False
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """A backfill was started."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no further page."""
        self._stopping = True
        self._woken.set()
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Until stopped; returns once all are given back."""
        lease = secrets.randbits(62)
        while not self._stopping:
            self._woken.clear()
            try:
                most = MOST_AT_ONCE - len(self._running)
                claimed = await self._backfills.claim(lease=lease, lease_for=LEASE, most=most) if most else []
                for backfill in claimed:
                    task = asyncio.create_task(self._go_on(backfill, lease))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                if not self._running:
                    while await self._backfills.forget_dry_runs():
                        pass
            except StoreUnavailable as error:
                log.warning("store unavailable, backfills wait", why=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_EVERY.total_seconds())
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._woken.set()

    async def _go_on(self, backfill: Backfill, lease: int) -> None:
        heartbeat = asyncio.create_task(self._hold(backfill.id, lease))
        try:
            await self._run_one(backfill, lease)
        except Exception:
            # A mistake of ours must not end the others; the lease ends, and it is tried again.
            log.exception("a backfill failed", backfill=backfill.id)
            return
        finally:
            heartbeat.cancel()
        with suppress(StoreUnavailable):
            await self._backfills.let_go(backfill.id, lease=lease)

    async def _run_one(self, backfill: Backfill, lease: int) -> None:
        failures = 0
        current: Backfill | None = backfill
        with suppress(asyncio.CancelledError):
            while current is not None and current.is_active and not self._stopping:
                try:
                    step = await self._steps.step(current, lease=lease, failures=failures)
                except StoreUnavailable as error:
                    log.warning("store unavailable, a backfill waits", backfill=backfill.id, why=str(error))
                    await self._sleep(STORE_PAUSE.total_seconds())
                    continue
                failures = failures + 1 if step.pause else 0
                current = step.backfill
                await self._sleep(step.pause.total_seconds())

    async def _hold(self, backfill_id: int, lease: int) -> None:
        while True:
            await self._sleep(RENEW_EVERY.total_seconds())
            with suppress(StoreUnavailable):
                if not await self._backfills.renew(backfill_id, lease=lease, lease_for=LEASE):
                    return
