"""Everything that runs in the background: deliveries, names and orders of exports, backfills and periodic chores."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

from app.delivery.loop import AccountLoop
from app.delivery.store import MemberQueue
from app.repeat import Repeat, Unfinished
from app.signals import EXPORTS_CHANGED, Signals, members_due

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(seconds=60)
# Until a chore that failed is tried again.
CHORE_PAUSE = timedelta(minutes=10)


class Worker:
    """Runs and drains the background loops of one process.

    Args:
        loops: by account; empty in a process that does not deliver.
        unfinished_exports: returns the exports with orders that are not carried out for all members.
        name_exports: names exports and creates their lists, once for all; True if it has to try again later.
        looks_every: how often exports are looked at without a signal; None if no other process can change them.
        chores: periodic tasks by name; each returns when it is due again.
        backfills: the loop that runs backfills; None in a process that runs none.
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
        looks_every: timedelta | None = None,
    ) -> None:
        self._queue = queue
        self._loops = loops
        self._unfinished_exports = unfinished_exports
        self._name_exports = name_exports
        self._drain_patience = drain_patience
        self._looks_every = looks_every
        # Two loops: naming takes a timeout for each export whose name or list fails, and the orders of other exports
        # must not wait for that.
        self._names = Repeat("names", self._name_all, retry_after=FIRST_PAUSE, longest_retry=LONGEST_PAUSE)
        self._orders = Repeat("orders", self._carry_out_orders, retry_after=FIRST_PAUSE, longest_retry=LONGEST_PAUSE)
        self._repeats: list[Repeat] = [*loops.values(), self._names, self._orders]
        self._repeats += [backfills] if backfills is not None else []
        self._repeats += [Repeat(name, chore, retry_after=CHORE_PAUSE) for name, chore in (chores or {}).items()]
        self._tasks: list[asyncio.Task[None]] = []
        signals.subscribe(EXPORTS_CHANGED, self._names.wake)
        signals.subscribe(EXPORTS_CHANGED, self._orders.wake)
        for account, loop in loops.items():
            signals.subscribe(members_due(account), loop.wake)

    def start(self) -> None:
        """Start every loop. Each begins with what the store holds."""
        self._tasks = [asyncio.create_task(repeat.run()) for repeat in self._repeats]

    async def stop(self) -> None:
        """Drain: claim no more members, wait until the calls in flight are settled."""
        for repeat in self._repeats:
            repeat.stop()
        if self._tasks:
            # A claim that is under way still starts its calls. Only then are all calls in flight known.
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_patience.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(loop.drain(patience=self._drain_patience) for loop in self._loops.values()))
        await self._queue.flush()

    async def _name_all(self) -> timedelta | None:
        try:
            if await self._name_exports():
                raise Unfinished
        finally:
            # Members that waited for the name or the list of their export are made due.
            self._orders.wake()
        return self._looks_every

    async def _carry_out_orders(self) -> timedelta | None:
        for export_id in await self._unfinished_exports():
            while await self._queue.next_batch(export_id) and not self._orders.is_stopped:
                self._wake_loops()
        self._wake_loops()
        if await self._unfinished_exports():
            # The rest waits for calls in flight.
            raise Unfinished
        return self._looks_every

    def _wake_loops(self) -> None:
        for loop in self._loops.values():
            loop.wake()
