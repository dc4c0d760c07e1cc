"""Group commit: shared, in order, and nobody pays for somebody else."""

import asyncio

import pytest

from app.store.database.group_commit import REST_SECONDS, WORTH_SHARING, GroupCommit
from tests.virtual_time import run


class CircuitBreaker:
    """A transaction that takes until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.opened = asyncio.Semaphore(0)
        self._begun = asyncio.Condition()

    async def __call__(self, items: list[int]) -> list[int]:
        async with self._begun:
            self.batches.append(items)
            self._begun.notify_all()
        await self.opened.acquire()
        if len(items) > 1 and 13 in items:
            raise ValueError("thirteen among others")
        if items == [13]:
            raise ValueError("thirteen alone")
        return [-item for item in items]

    async def begun(self, batches: int) -> None:
        """Until so many transactions have begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: len(self.batches) >= batches)


async def turns() -> None:
    """As many turns of the event loop as anything takes to begin."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_each_caller_is_answered_after_its_own_commit() -> None:
    """Whoever comes while a transaction runs goes into the next, and waits for that one."""
    gate = CircuitBreaker()
    group = GroupCommit(gate)
    early = asyncio.create_task(group.submit(1))
    await gate.begun(1)
    late = [asyncio.create_task(group.submit(n)) for n in (2, 3)]
    gate.opened.release()
    answer = await early
    await gate.begun(2)
    were_done = [task.done() for task in late]
    gate.opened.release()

    assert answer == -1
    assert were_done == [False, False]
    assert await asyncio.gather(*late) == [-2, -3]
    assert gate.batches == [[1], [2, 3]]


async def test_a_transaction_holds_only_so_many() -> None:
    """The rest follows in order."""
    gate = CircuitBreaker()
    sizes: list[int] = []
    group = GroupCommit(gate, most=2, on_commit=sizes.append)
    for _ in range(3):
        gate.opened.release()
    answers = await asyncio.gather(*(group.submit(n) for n in range(5)))

    assert answers == [0, -1, -2, -3, -4]
    assert gate.batches == [[0, 1], [2, 3], [4]]
    assert sizes == [2, 2, 1]


async def test_the_culprit_hears_its_own_error() -> None:
    """Each of a refused batch is tried alone; the others are stored."""
    gate = CircuitBreaker()
    for _ in range(4):
        gate.opened.release()
    sizes: list[int] = []
    group = GroupCommit(gate, on_commit=sizes.append)
    results = await asyncio.gather(*(group.submit(n) for n in (1, 13, 2)), return_exceptions=True)

    assert (results[0], results[2]) == (-1, -2)
    assert str(results[1]) == "thirteen alone"
    assert sizes == [1, 1]


@pytest.mark.parametrize("item", [1, 13])
async def test_a_caller_that_goes_away_disturbs_nobody(item: int) -> None:
    """Whether its own item would have been stored or refused."""
    gate = CircuitBreaker()
    group = GroupCommit(gate)
    gone = asyncio.create_task(group.submit(item))
    await gate.begun(1)
    stays = asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    gone.cancel()
    gate.opened.release()
    gate.opened.release()

    assert await stays == -2
    assert gone.cancelled()


async def test_a_flush_waits_for_all_that_is_under_way() -> None:
    """Also for what came while it waited; without anything to do it returns at once."""
    gate = CircuitBreaker()
    group = GroupCommit(gate)
    await group.flush()
    first = asyncio.create_task(group.submit(1))
    await gate.begun(1)
    flushed = asyncio.create_task(group.flush())
    second = asyncio.create_task(group.submit(2))
    gate.opened.release()
    await gate.begun(2)
    was_done = flushed.done()
    gate.opened.release()
    await flushed

    assert not was_done
    assert (first.result(), second.result()) == (-1, -2)


async def test_a_group_that_was_idle_begins_anew() -> None:
    """After a success as after a failure."""
    gate = CircuitBreaker()
    group = GroupCommit(gate)
    for _ in range(3):
        gate.opened.release()
    with pytest.raises(ValueError, match="alone"):
        await group.submit(13)

    assert await group.submit(1) == -1
    assert await group.submit(2) == -2


async def test_items_share_a_transaction_up_to_its_size() -> None:
    """An item that is larger by itself goes alone, and none is put before another."""
    batches: list[list[int]] = []

    async def commit(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    group: GroupCommit[int, int] = GroupCommit(commit, most=10, size_of=lambda item: item)
    results = await asyncio.gather(*(group.submit(item) for item in [4, 6, 1, 99, 5, 5, 5]))

    assert results == [4, 6, 1, 99, 5, 5, 5]
    assert batches == [[4, 6], [1], [99], [5, 5], [5]]


async def test_two_transactions_side_by_side_have_equal_shares() -> None:
    """Whoever comes while both run waits for the first to end; a flush waits for all."""
    gate = CircuitBreaker()
    group = GroupCommit(gate, at_once=2)
    items = range(100, 100 + 4 * WORTH_SHARING)
    early = [asyncio.create_task(group.submit(n)) for n in items]
    await gate.begun(2)
    late = asyncio.create_task(group.submit(1000))
    await turns()
    were_begun = len(gate.batches)
    flush = asyncio.create_task(group.flush())
    gate.opened.release()
    await gate.begun(3)
    gate.opened.release()
    await turns()
    was_flushed = flush.done()
    gate.opened.release()
    await flush

    assert were_begun == 2
    assert not was_flushed
    assert gate.batches == [list(items[: len(items) // 2]), list(items[len(items) // 2 :]), [1000]]
    assert [await one for one in [*early, late]] == [-n for n in [*items, 1000]]


async def test_what_is_about_the_same_is_stored_in_the_order_in_which_it_came() -> None:
    """It waits for what is under way, and nothing that comes later passes it; others do."""
    gate = CircuitBreaker()
    group = GroupCommit(gate, at_once=2, keys_of=lambda n: {n % 10, n % 100})
    first = asyncio.create_task(group.submit(101))
    await gate.begun(1)
    later = [asyncio.create_task(group.submit(n)) for n in (211, 302, 411)]
    await gate.begun(2)
    await turns()
    were_begun = list(gate.batches)
    gate.opened.release()
    await first
    await gate.begun(3)
    for _ in range(2):
        gate.opened.release()
    await asyncio.gather(*later)

    assert were_begun == [[101], [302]]
    assert gate.batches == [[101], [302], [211, 411]]


async def test_a_few_share_one_transaction_although_two_could_run() -> None:
    """One sync to disk is enough for them."""
    gate = CircuitBreaker()
    group = GroupCommit(gate, at_once=2)
    gate.opened.release()
    await asyncio.gather(*(group.submit(n) for n in range(100, 100 + WORTH_SHARING)))

    assert gate.batches == [list(range(100, 100 + WORTH_SHARING))]


def test_those_who_were_answered_together_share_the_next_transaction() -> None:
    """Although one of them comes again at once and the other a little later."""
    batches: list[list[str]] = []

    async def commit(items: list[str]) -> list[str]:
        batches.append(items)
        return items

    async def come_again(group: GroupCommit[str, str], name: str, after: float) -> None:
        for _ in range(3):
            await group.submit(name)
            await asyncio.sleep(after)

    async def story() -> None:
        group = GroupCommit(commit)
        await asyncio.gather(come_again(group, "quick", 0), come_again(group, "slow", REST_SECONDS / 2))

    run(story())

    assert batches == [["quick", "slow"]] * 3


def test_who_comes_alone_waits_for_nobody() -> None:
    """One request after the other, each in a transaction that begins at once."""

    async def commit(items: list[int]) -> list[int]:
        return items

    async def story() -> float:
        group = GroupCommit(commit)
        for number in range(3):
            await group.submit(number)
        return asyncio.get_running_loop().time()

    assert run(story()) == 0
