"""Group commit: callers share a transaction, keep their order, and fail only for their own item."""

import asyncio

import pytest

from app.domain.errors import StoreUnavailable
from app.store.database.group_commit import REST_SECONDS, GroupCommit
from tests.virtual_time import run


class SlowCommit:
    """A transaction that takes until the test releases it, and fails for the item 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.released = asyncio.Semaphore(0)
        self._begun = asyncio.Condition()

    async def __call__(self, items: list[int]) -> list[int]:
        async with self._begun:
            self.batches.append(items)
            self._begun.notify_all()
        await self.released.acquire()
        if len(items) > 1 and 13 in items:
            raise ValueError("thirteen among others")
        if items == [13]:
            raise ValueError("thirteen alone")
        return [-item for item in items]

    async def begun(self, batches: int) -> None:
        """Wait until this many transactions have begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: len(self.batches) >= batches)


class Commit:
    """A transaction that fails for the item 13, and for all items while the database is unavailable."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_away = False

    async def __call__(self, items: list[int]) -> list[str]:
        await asyncio.sleep(0)
        self.batches.append(items)
        if self.is_away:
            raise StoreUnavailable("away")
        if 13 in items:
            raise ValueError("thirteen")
        return [str(item) for item in items]


async def test_simultaneous_callers_share_a_commit() -> None:
    commit, sizes = Commit(), list[int]()
    group = GroupCommit(commit, on_commit=sizes.append)
    answers = await asyncio.gather(*(group.submit(n) for n in range(10)))

    assert answers == [str(n) for n in range(10)]
    assert commit.batches == [list(range(10))]
    assert sizes == [10]


async def test_caller_is_answered_after_the_commit_of_its_item() -> None:
    """Items that arrive during a transaction share the next one."""
    commit = SlowCommit()
    group = GroupCommit(commit)
    early = asyncio.create_task(group.submit(1))
    await commit.begun(1)
    late = [asyncio.create_task(group.submit(n)) for n in (2, 3)]
    commit.released.release()
    answer = await early
    await commit.begun(2)
    were_done = [task.done() for task in late]
    commit.released.release()

    assert answer == -1
    assert were_done == [False, False]
    assert await asyncio.gather(*late) == [-2, -3]
    assert commit.batches == [[1], [2, 3]]


async def test_items_beyond_the_limit_go_into_the_next_transaction() -> None:
    commit = SlowCommit()
    sizes: list[int] = []
    group = GroupCommit(commit, max_size=2, on_commit=sizes.append)
    for _ in range(3):
        commit.released.release()
    answers = await asyncio.gather(*(group.submit(n) for n in range(5)))

    assert answers == [0, -1, -2, -3, -4]
    assert commit.batches == [[0, 1], [2, 3], [4]]
    assert sizes == [2, 2, 1]


async def test_large_item_gets_its_own_transaction_in_order() -> None:
    batches: list[list[int]] = []

    async def commit(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    group: GroupCommit[int, int] = GroupCommit(commit, max_size=10, size_of=lambda item: item)
    results = await asyncio.gather(*(group.submit(item) for item in [4, 6, 1, 99, 5, 5, 5]))

    assert results == [4, 6, 1, 99, 5, 5, 5]
    assert batches == [[4, 6], [1], [99], [5, 5], [5]]


async def test_only_the_bad_item_of_a_failed_batch_fails() -> None:
    """Each item is repeated alone, and its caller gets the error of that transaction."""
    commit = SlowCommit()
    for _ in range(4):
        commit.released.release()
    sizes: list[int] = []
    group = GroupCommit(commit, on_commit=sizes.append)
    results = await asyncio.gather(*(group.submit(n) for n in (1, 13, 2)), return_exceptions=True)

    assert (results[0], results[2]) == (-1, -2)
    assert str(results[1]) == "thirteen alone"
    assert sizes == [1, 1]


async def test_cancelled_caller_does_not_change_the_answers_of_a_failed_batch() -> None:
    group = GroupCommit(Commit())
    gone = asyncio.create_task(group.submit(1))
    bad = asyncio.create_task(group.submit(13))
    good = asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    gone.cancel()
    results = await asyncio.gather(gone, bad, good, return_exceptions=True)
    await group.flush()

    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], ValueError)
    assert results[2] == "2"


@pytest.mark.parametrize("item", [1, 13])
async def test_caller_cancelled_during_the_commit_does_not_disturb_others(item: int) -> None:
    commit = SlowCommit()
    group = GroupCommit(commit)
    gone = asyncio.create_task(group.submit(item))
    await commit.begun(1)
    stays = asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    gone.cancel()
    commit.released.release()
    commit.released.release()

    assert await stays == -2
    assert gone.cancelled()


async def test_unavailable_database_fails_all_callers_without_a_second_attempt() -> None:
    commit = Commit()
    commit.is_away = True
    group = GroupCommit(commit)
    results = await asyncio.gather(*(group.submit(n) for n in range(5)), return_exceptions=True)

    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(commit.batches) == 1


async def test_flush_waits_for_items_that_arrive_meanwhile() -> None:
    commit = SlowCommit()
    group = GroupCommit(commit)
    await group.flush()
    first = asyncio.create_task(group.submit(1))
    await commit.begun(1)
    flushed = asyncio.create_task(group.flush())
    second = asyncio.create_task(group.submit(2))
    commit.released.release()
    await commit.begun(2)
    was_done = flushed.done()
    commit.released.release()
    await flushed

    assert not was_done
    assert (first.result(), second.result()) == (-1, -2)


async def test_idle_group_starts_again() -> None:
    """This holds after a failure and after a success."""
    commit = SlowCommit()
    group = GroupCommit(commit)
    for _ in range(3):
        commit.released.release()
    with pytest.raises(ValueError, match="alone"):
        await group.submit(13)

    assert await group.submit(1) == -1
    assert await group.submit(2) == -2


def test_callers_answered_together_share_the_next_transaction() -> None:
    """One of them returns at once and the other a little later."""
    batches: list[list[str]] = []

    async def commit(items: list[str]) -> list[str]:
        batches.append(items)
        return items

    async def submit_again(group: GroupCommit[str, str], name: str, after: float) -> None:
        for _ in range(3):
            await group.submit(name)
            await asyncio.sleep(after)

    async def scenario() -> None:
        group = GroupCommit(commit)
        await asyncio.gather(submit_again(group, "quick", 0), submit_again(group, "slow", REST_SECONDS / 2))

    run(scenario())

    assert batches == [["quick", "slow"]] * 3


def test_single_caller_does_not_wait() -> None:
    async def commit(items: list[int]) -> list[int]:
        return items

    async def scenario() -> float:
        group = GroupCommit(commit)
        for number in range(3):
            await group.submit(number)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 0
