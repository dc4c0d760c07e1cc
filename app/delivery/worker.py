"""Runs deliveries and naming in the background: claim, run, settle, wait; drains on shutdown.

Waiting is event-driven: a webhook's commit, a settled member that is due again, or the clock of the next due time
wake a loop; an idle service asks the database nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog

from app.delivery.loop import FIRST_PAUSE, AccountLoop, Members
from app.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)

LONGEST_PAUSE = timedelta(seconds=60)
# Until a chore that failed is tried again.
CHORE_PAUSE = timedelta(minutes=10)


class Exports(Protocol):
    """Which exports were resumed, stopped, or had their list changed."""

    async def unfinished(self) -> list[int]:
        """The exports that have something left to be done for each of their members."""
        ...


class Backfills(Protocol):
    """Verb 3 for all exports."""

    async def run(self) -> None:
        """Until stopped."""
        ...

    def stop(self) -> None:
        """Begin no further page."""
        ...


class Worker:
    """Everything that runs beside the web doors: one loop for each account, one that names new exports, and one that
    does for members what was ordered of their export.

    Args:
        loops: by account.
        name_exports: looks after all exports once; true if something failed that may work later.
        backfills: runs beside the deliveries.
        looks_every: after exports, although nobody told of a change; None where nobody else can make one.
        chores: what is done again and again, by name; each returns when it wants its next turn.
    """

    def __init__(
        self,
        members: Members,
        exports: Exports,
        loops: Mapping[str, AccountLoop],
        name_exports: Callable[[], Awaitable[bool]],
        *,
        drain_patience: timedelta,
        chores: Mapping[str, Callable[[], Awaitable[timedelta]]] | None = None,
        backfills: Backfills | None = None,
        looks_every: timedelta | None = None,
    ) -> None:
        self._looks_every = looks_every
        self._members = members
        self._exports = exports
        self._name_exports = name_exports
        self._drain_patience = drain_patience
        self._chores = chores or {}
        self._backfills = backfills
        self._stopped = asyncio.Event()
        self._loops = loops
        self._exports_changed = asyncio.Event()
        self._orders_changed = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self, account: str) -> None:
        """Somebody of this account is due."""
        if account in self._loops:
            self._loops[account].wake()

    def wake_all(self) -> None:
        """Somebody may be due."""
        for loop in self._loops.values():
            loop.wake()

    def exports_changed(self) -> None:
        """An export was started, named, resumed or stopped: look after its name, its list and its members."""
        self._exports_changed.set()
        self._orders_changed.set()

    def start(self) -> None:
        """Begin with what the store holds."""
        self.exports_changed()
        self._tasks = [asyncio.create_task(loop.run()) for loop in self._loops.values()]
        # Apart: to name all exports takes a timeout for each whose name or list nobody answers for, and orders of the
        # others don't wait for that.
        self._tasks += [
            asyncio.create_task(self._look_after("names", self._exports_changed, self._name_all)),
            asyncio.create_task(self._look_after("orders", self._orders_changed, self._carry_out_orders)),
        ]
        if self._backfills is not None:
            self._tasks.append(asyncio.create_task(self._backfills.run()))
        self._tasks += [asyncio.create_task(self._do(name, chore)) for name, chore in self._chores.items()]

    async def stop(self) -> None:
        """Drain: claim nobody any more, let the calls in flight end and be settled."""
        self._stopping = True
        self._stopped.set()
        self.exports_changed()
        if self._backfills is not None:
            self._backfills.stop()
        for loop in self._loops.values():
            loop.stop()
        if self._tasks:
            # A claim under way is finished and called for; only then is it known which calls are in flight.
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_patience.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(loop.drain(patience=self._drain_patience) for loop in self._loops.values()))
        await self._members.flush()

    async def _look_after(self, what: str, changed: asyncio.Event, look: Callable[[], Awaitable[bool]]) -> None:
        """Look whenever something has changed, and again after a pause that grows where a look left something
        unfinished.
        """
        pause = FIRST_PAUSE
        is_unfinished = False
        while True:
            wait = pause if is_unfinished else self._looks_every
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if wait is None else wait.total_seconds())
            if self._stopping:
                return
            pause = FIRST_PAUSE if changed.is_set() else min(2 * pause, LONGEST_PAUSE)
            changed.clear()
            try:
                is_unfinished = await look()
            except StoreUnavailable as error:
                log.warning("store unavailable, exports wait", what=what, why=str(error))
                is_unfinished = True
            except Exception:
                # A mistake of ours must not end the loop; it is told once a round.
                log.exception("looking after exports failed", what=what)
                is_unfinished = True

    async def _name_all(self) -> bool:
        try:
            return await self._name_exports()
        finally:
            # Whoever waits for an export that has its name and list now is made due.
            self._orders_changed.set()

    async def _do(self, name: str, chore: Callable[[], Awaitable[timedelta]]) -> None:
        """Do a chore at the start, and each time that it wants its turn; others have theirs meanwhile."""
        while not self._stopped.is_set():
            pause = CHORE_PAUSE
            try:
                pause = await chore()
            except StoreUnavailable as error:
                log.warning("store unavailable, a chore waits", chore=name, why=str(error))
            except Exception:
                # A mistake of ours must not end the loop; it is tried again.
                log.exception("a chore failed", chore=name)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause.total_seconds())

    async def _carry_out_orders(self) -> bool:
        """Do for each member what was ordered of its export. True if something waits for calls that are under way."""
        for export_id in await self._exports.unfinished():
            while await self._members.next_batch(export_id) and not self._stopping:
                self.wake_all()
        self.wake_all()
        return bool(await self._exports.unfinished())
