"""The background loop: intervals, wake-ups, back-off and stop."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.domain.errors import StoreUnavailable
from app.repeat import Repeat, Unfinished
from tests.factories import HOUR, MINUTE, SECOND
from tests.virtual_time import run

Turn = timedelta | None | Exception


def turns(*turns_in_order: Turn, during: Callable[[Repeat], None] | None = None, seconds: float = 3600) -> list[float]:
    """Run a loop in virtual time and return when each run of its task began.

    After the given turns, the task waits for a wake-up.
    """

    async def work() -> list[float]:
        began: list[float] = []
        left = list(turns_in_order)

        async def task() -> timedelta | None:
            began.append(asyncio.get_running_loop().time())
            turn = left.pop(0) if left else None
            if isinstance(turn, Exception):
                raise turn
            return turn

        loop = Repeat("a loop", task, retry_after=5 * SECOND, longest_retry=MINUTE)
        running = asyncio.create_task(loop.run())
        if during is not None:
            during(loop)
        await asyncio.sleep(seconds)
        loop.stop()
        await asyncio.wait_for(running, 1)
        return began

    return run(work())


def wake_after(*seconds: float) -> Callable[[Repeat], None]:
    def schedule(loop: Repeat) -> None:
        for delay in seconds:
            asyncio.get_running_loop().call_later(delay, loop.wake)

    return schedule


def test_task_runs_at_once_and_after_each_interval() -> None:
    assert turns(MINUTE, 2 * MINUTE) == [0, 60, 180]


def test_wake_up_repeats_task_at_once() -> None:
    assert turns(None, HOUR, during=wake_after(7, 8), seconds=100) == [0, 7, 8]


@pytest.mark.parametrize(
    "failure",
    [Unfinished(), StoreUnavailable("The disk is full."), RuntimeError("a bug")],
    ids=lambda e: type(e).__name__,
)
def test_wait_doubles_with_each_failure_up_to_the_longest(failure: Exception) -> None:
    assert turns(*[failure] * 7) == [0, 5, 15, 35, 75, 135, 195, 255]


def test_wait_starts_again_after_success() -> None:
    failure = Unfinished()

    assert turns(failure, failure, MINUTE, failure) == [0, 5, 15, 75, 80]


def test_wait_starts_again_after_wake_up() -> None:
    failure = Unfinished()

    assert turns(*[failure] * 4, during=wake_after(16)) == [0, 5, 15, 16, 21]


def test_wake_up_during_task_repeats_it() -> None:
    async def work() -> int:
        count = 0

        async def task() -> None:
            nonlocal count
            count += 1
            if count == 1:
                loop.wake()

        loop = Repeat("a loop", task, retry_after=SECOND)
        running = asyncio.create_task(loop.run())
        await asyncio.sleep(HOUR.total_seconds())
        loop.stop()
        await running
        return count

    assert run(work()) == 2


def test_stop_lets_running_task_finish() -> None:
    async def work() -> list[str]:
        steps: list[str] = []

        async def task() -> timedelta:
            await asyncio.sleep(10)
            steps.append(f"stopped: {loop.is_stopped}")
            return timedelta(0)

        loop = Repeat("a loop", task, retry_after=SECOND)
        running = asyncio.create_task(loop.run())
        await asyncio.sleep(1)
        loop.stop()
        await running
        return steps

    assert run(work()) == ["stopped: True"]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Unfinished(), []),
        (StoreUnavailable("The disk is full."), [("warning", "store unavailable, retrying")]),
        (RuntimeError("a bug"), [("error", "background loop failed, retrying")]),
    ],
    ids=["unfinished", "store", "bug"],
)
def test_failure_is_logged_with_name_of_loop(failure: Exception, expected: list[tuple[str, str]]) -> None:
    lines: list[Any]
    with capture_logs() as lines:
        turns(failure)

    assert [(line["log_level"], line["event"]) for line in lines] == expected
    assert all(line["loop"] == "a loop" for line in lines)
