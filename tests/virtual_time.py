"""An event loop whose time jumps to the next timer as soon as nothing else is ready: hours pass in moments."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
# Turns of the loop at one moment; the busiest that was seen has some hundreds.
MOST_TURNS = 100_000


class StandsStill(Exception):
    """Something goes round without end."""


class _Selector(selectors.SelectSelector):
    """Sleeps by moving the loop's time; but while something outside is waited for, which takes real time, it waits."""

    slept = 0.0
    waits_for = 0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise StandsStill("Tasks keep each other busy, and time does not go on.")
        if not ready and self.waits_for:
            return super().select(None if timeout is None or timeout > 0 else 0)
        if not ready:
            if timeout is None:
                raise RuntimeError("All tasks wait for each other.")
            if timeout > 0:
                self.slept += timeout
                self.turns = 0
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0. Nothing in it may wait for a thread or another process, but within `outside`.

    Raises:
        StandsStill: tasks keep each other busy for good at one moment; its note says where each of them is.
    """

    def __init__(self) -> None:
        self._sleeper = _Selector()
        super().__init__(self._sleeper)

    def run_until_complete(self, future: Any) -> Any:
        try:
            return super().run_until_complete(future)
        except StandsStill as error:
            error.add_note(", ".join(whereabouts(self)))
            raise

    def time(self) -> float:
        return self._sleeper.slept

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Time stands still while something outside of the loop is waited for."""
        self._sleeper.waits_for += 1
        try:
            yield
        finally:
            self._sleeper.waits_for -= 1


def whereabouts(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Where each task stands, to be told when something went wrong."""
    frames = [frame for task in asyncio.all_tasks(loop) for frame in task.get_stack()]
    return sorted(f"{Path(f.f_code.co_filename).name}:{f.f_lineno} {f.f_code.co_name}" for f in frames)


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


class LoopClock:
    """The wall clock of such a loop: shows `start` when the loop's time is 0."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())
