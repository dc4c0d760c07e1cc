"""An event loop with virtual time. It jumps to the next timer when no task is ready."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
# The largest number of loop turns at one moment. Tests need some hundreds.
MAX_TURNS = 100_000


class StandsStill(Exception):
    """Virtual time does not advance, because tasks wake each other forever."""


class _Selector(selectors.SelectSelector):
    """Advances the virtual time instead of sleeping. Within `outside`, it waits in real time."""

    slept = 0.0
    waits_for = 0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.turns += 1
        if self.turns > MAX_TURNS:
            raise StandsStill("Tasks wake each other forever, so virtual time does not advance.")
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
    """A loop whose time begins at 0. Tasks may wait for threads and other processes only within `outside`.

    Raises:
        StandsStill: tasks wake each other forever at one moment. A note lists the position of each task.
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
        """Stop virtual time, so that the loop can wait for threads and other processes."""
        self._sleeper.waits_for += 1
        try:
            yield
        finally:
            self._sleeper.waits_for -= 1


def whereabouts(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Return the line at which each task waits, for error messages."""
    frames = [frame for task in asyncio.all_tasks(loop) for frame in task.get_stack()]
    return sorted(f"{Path(f.f_code.co_filename).name}:{f.f_lineno} {f.f_code.co_name}" for f in frames)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


class LoopClock:
    """The wall clock of a virtual loop. It shows `start` at the loop's time 0."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())
