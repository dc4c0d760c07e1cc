"""
An event loop whose time jumps to the next timer as soon as nothing else is ready: hours pass in moments.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """
    Sleeps by moving the loop's time; but while something outside is waited for, which takes real time, it waits.
    """

    slept = 0.0
    waits_for = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and self.waits_for:
            return super().select(None if timeout is None or timeout > 0 else 0)
        if not ready:
            if timeout is None:
                raise RuntimeError("All tasks wait for each other.")
            self.slept += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    Its time begins at 0. Nothing in it may wait for a thread or another process, but within `outside`.
    """

    def __init__(self) -> None:
        self._sleeper = _Selector()
        super().__init__(self._sleeper)

    def time(self) -> float:
        return self._sleeper.slept

    @contextmanager
    def outside(self) -> Iterator[None]:
        """
        Time stands still while something outside of the loop is waited for.
        """
        self._sleeper.waits_for += 1
        try:
            yield
        finally:
            self._sleeper.waits_for -= 1


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    The result of the work.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


class LoopClock:
    """
    The wall clock of such a loop: shows `start` when the loop's time is 0.
    """

    def __init__(self, start: datetime) -> None:
        self.start = start

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())
