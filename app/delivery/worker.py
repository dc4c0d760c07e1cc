"""All background loops of a process: delivery, names and orders of exports, backfills and periodic chores."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from app.delivery.loop import AccountLoop
from app.delivery.store import MemberQueue
from app.repeat import Repeat, Unfinished
from app.signals import EXPORTS_CHANGED, Signals, members_due

FIRST_RETRY_WAIT, LONGEST_RETRY_WAIT = timedelta(seconds=5), timedelta(seconds=60)
CHORE_RETRY_WAIT = timedelta(minutes=10)


class Worker:
    """Runs and drains the background loops of one process.

    Args:
        loops: by account; empty in a process that does not deliver.
        unfinished_exports: returns the exports with orders that do not yet apply to all members.
        name_exports: names exports and creates their lists; returns True if it must be repeated.
        poll_interval: how often exports are read without a signal; None if no other process can change them.
        chores: periodic tasks by name; each returns the interval until its next run.
        backfills: the loop that runs backfills; None in a process without backfills.
    """

    def __init__(
        self,
        queue: MemberQueue,
        loops: Mapping[str, AccountLoop],
        signals: Signals,
        *,
        unfinished_exports: Callable[[], Awaitable[Sequence[int]]],
        name_exports: Callable[[], Awaitable[bool]],
        drain_patience: timedelta,
        chores: Mapping[str, Callable[[], Awaitable[timedelta]]] | None = None,
        backfills: Repeat | None = None,
        poll_interval: timedelta | None = None,
    ) -> None:
        self._queue = queue
        self._loops = loops
        self._unfinished_exports = unfinished_exports
        self._name_exports = name_exports
        self._drain_patience = drain_patience
        self._poll_interval = poll_interval
        # Names and orders have separate loops. Naming may take a timeout per export, and orders must not wait for it.
        self._names = Repeat(
            "names", self._name_exports_once, retry_after=FIRST_RETRY_WAIT, longest_retry=LONGEST_RETRY_WAIT
        )
        self._orders = Repeat(
            "orders", self._carry_out_orders, retry_after=FIRST_RETRY_WAIT, longest_retry=LONGEST_RETRY_WAIT
        )
        self._repeats: list[Repeat] = [*loops.values(), self._names, self._orders]
        self._repeats += [backfills] if backfills is not None else []
        self._repeats += [Repeat(name, chore, retry_after=CHORE_RETRY_WAIT) for name, chore in (chores or {}).items()]
        self._tasks: list[asyncio.Task[None]] = []
        signals.subscribe(EXPORTS_CHANGED, self._names.wake)
        signals.subscribe(EXPORTS_CHANGED, self._orders.wake)
        for account, loop in loops.items():
            signals.subscribe(members_due(account), loop.wake)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(repeat.run()) for repeat in self._repeats]

    async def stop(self) -> None:
        """Stop claiming members and wait until the calls in flight are settled."""
        for repeat in self._repeats:
            repeat.stop()
        if self._tasks:
            # A running claim still starts its calls, so wait for the loops before their calls.
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_patience.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(loop.drain(patience=self._drain_patience) for loop in self._loops.values()))
        await self._queue.flush()

    async def _name_exports_once(self) -> timedelta | None:
        try:
            if await self._name_exports():
                raise Unfinished
        finally:
            # The orders loop makes members due that waited for the name or list of their export.
            self._orders.wake()
        return self._poll_interval

    async def _carry_out_orders(self) -> timedelta | None:
        for export_id in await self._unfinished_exports():
            while await self._queue.next_batch(export_id) and not self._orders.is_stopped:
                self._wake_loops()
        self._wake_loops()
        if await self._unfinished_exports():
            # The remaining members have calls in flight.
            raise Unfinished
        return self._poll_interval

    def _wake_loops(self) -> None:
        for loop in self._loops.values():
            loop.wake()
