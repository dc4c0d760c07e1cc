"""Group commit: many callers share one transaction, and with it one sync to disk."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.domain.errors import StoreUnavailable

# Pause after a shared transaction. Its callers return within this time, so they share the next transaction too.
# Without the pause, the first caller to return would get a transaction of its own.
REST_SECONDS = 0.002

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Collects the items that arrive while a transaction runs, and commits them together in the next one.

    A caller gets its result when the transaction that holds its item is committed. If a shared transaction fails, each
    item is repeated in a transaction of its own, so that only the bad item fails. If the database is unavailable,
    all callers of the transaction fail at once.

    Args:
        commit: stores items in one transaction. Returns one result for each, in order, or raises and stores nothing.
        max_size: maximum size of one transaction. A larger item gets a transaction of its own.
        size_of: returns the size of an item.
        on_commit: receives the number of items of each successful transaction.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        max_size: int = 500,
        size_of: Callable[[Item], int] = lambda _: 1,
        on_commit: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._commit = commit
        self._most = max_size
        self._size_of = size_of
        self._on_commit = on_commit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Return the result of an item once it is committed; raise the error that prevented the commit."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def flush(self) -> None:
        """Wait until all submitted items are stored or have failed."""
        while self._running is not None:
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._next()
                await self._store(batch)
                if len(batch) > 1:
                    await asyncio.sleep(REST_SECONDS)
        finally:
            self._running = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        size = 0
        while self._waiting:
            size += self._size_of(self._waiting[0][0])
            if batch and size > self._most:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _store(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
        except StoreUnavailable as error:
            for _, answer in batch:
                _fail(answer, error)
            return
        except Exception as error:  # noqa: BLE001 - the error is passed on to the callers
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for caller in batch:
                await self._store([caller])
            return
        self._on_commit(len(batch))
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)


def _fail(answer: asyncio.Future[Result], error: Exception) -> None:
    # A caller whose connection was closed has cancelled its future.
    if not answer.done():
        answer.set_exception(error)
