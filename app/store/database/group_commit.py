"""Group commit: many callers share one transaction, and with it one sync to disk."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Generic, TypeVar

from app.domain.errors import StoreUnavailable

# After a transaction that several shared: those whom it answered come again meanwhile and share the next, in place of
# waiting for one that the first of them has to itself.
REST_SECONDS = 0.002
# So many go into one transaction also where several could share them: what each costs by itself is spread over enough.
WORTH_SHARING = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects what callers hand in while earlier transactions run, and commits it together.

    Each caller is answered when the transaction that holds its own item has been committed. If the database refuses a
    transaction of several, each item is tried again in one of its own, so that only the culprit hears of it. If the
    database is not there at all, that is no item's fault, and all hear of it at once.

    Args:
        commit: stores items in one transaction; returns one result for each, in order, or raises and keeps nothing.
        most: the size of one transaction, unless a single item is larger.
        size_of: how much of it an item takes.
        on_commit: told the number of items of each transaction that worked.
        at_once: how many transactions run side by side.
        keys_of: whom an item is about: those about the same are stored in the order in which they came.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        most: int = 500,
        size_of: Callable[[Item], int] = lambda _: 1,
        on_commit: Callable[[int], None] = lambda _: None,
        at_once: int = 1,
        keys_of: Callable[[Item], Collection[Hashable]] = lambda _: (),
    ) -> None:
        self._commit = commit
        self._most = most
        self._size_of = size_of
        self._on_commit = on_commit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._lanes = range(at_once)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._keys_of = keys_of
        self._under_way = 0
        self._busy: set[Hashable] = set()
        self._rests_until = float("-inf")

    async def submit(self, item: Item) -> Result:
        """Store one item; returns once it is committed, raises what kept it from being so."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        lane = next((lane for lane in self._lanes if lane not in self._running), None)
        if lane is not None:
            self._running[lane] = asyncio.create_task(self._run(lane))
        return await answer

    async def flush(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, lane: int) -> None:
        try:
            while self._waiting:
                if (pause := self._rests_until - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(pause)
                    continue
                batch, keys = self._next()
                if not batch:
                    # All wait for somebody under way in another lane, which will take them.
                    return
                self._under_way += len(batch)
                self._busy |= keys
                try:
                    await self._store(batch)
                finally:
                    self._under_way -= len(batch)
                    self._busy -= keys
        finally:
            del self._running[lane]

    def _next(self) -> tuple[list[tuple[Item, asyncio.Future[Result]]], set[Hashable]]:
        """What goes into a transaction, and whom that is about."""
        # One that took all would leave nothing for those beside it.
        share = max(WORTH_SHARING, math.ceil((len(self._waiting) + self._under_way) / len(self._lanes)))
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        left: list[tuple[Item, asyncio.Future[Result]]] = []
        keys, not_yet = set[Hashable](), self._busy.copy()
        size = 0
        while self._waiting and len(batch) < share:
            item, _ = self._waiting[0]
            of_item = self._keys_of(item)
            if not not_yet.isdisjoint(of_item):
                # Nor whoever comes after it and is about the same.
                not_yet.update(of_item)
                left.append(self._waiting.popleft())
                continue
            size += self._size_of(item)
            if batch and size > self._most:
                break
            keys.update(of_item)
            batch.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(left))
        return batch, keys

    async def _store(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
        except StoreUnavailable as error:
            for _, answer in batch:
                _fail(answer, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it was belongs to the callers, not to this task
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for one in batch:
                await self._store([one])
            return
        self._on_commit(len(batch))
        if len(batch) > 1:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)


def _fail(answer: asyncio.Future[Result], error: Exception) -> None:
    # A caller that has gone away (a closed connection) has cancelled its future.
    if not answer.done():
        answer.set_exception(error)
