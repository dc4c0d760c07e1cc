"""The one background loop: it repeats a task after an interval, on a wake-up, or after a back-off, until it stops."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from app.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Unfinished(Exception):
    """Raised by a task that left something undone. The loop repeats it after the back-off, without a log line."""


class Repeat:
    """Repeats a task, the first time at once.

    The task returns how long to wait until the next time; None to wait for a wake-up. If it fails, the loop logs why
    and waits `retry_after`. The wait doubles with each further failure, and starts again at `retry_after` after a
    success or a wake-up.

    Args:
        name: of the loop, for the log.
        longest_retry: the longest wait after a failure; the default is `retry_after`, so that the wait never grows.
    """

    def __init__(
        self,
        name: str,
        task: Callable[[], Awaitable[timedelta | None]],
        *,
        retry_after: timedelta,
        longest_retry: timedelta | None = None,
    ) -> None:
        self._name = name
        self._task = task
        self._retry_after = self._backoff = retry_after
        self._longest_retry = longest_retry or retry_after
        self._woken = asyncio.Event()
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """True once the loop was told to stop. A long task checks it between steps."""
        return self._is_stopped

    def wake(self) -> None:
        """Repeat the task at once, or again if it is running."""
        self._woken.set()

    def stop(self) -> None:
        """Start the task no more. A task that is running finishes first."""
        self._is_stopped = True
        self._woken.set()

    async def run(self) -> None:
        """Return once the loop is stopped."""
        while not self._is_stopped:
            # Cleared before the task runs: the loop must not miss a wake-up that arrives during the task.
            self._woken.clear()
            wait = await self._run_once()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), None if wait is None else wait.total_seconds())
            if self._woken.is_set():
                self._backoff = self._retry_after

    async def _run_once(self) -> timedelta | None:
        try:
            wait = await self._task()
        except Unfinished:
            pass
        except StoreUnavailable as error:
            log.warning("store unavailable, the loop waits", loop=self._name, why=str(error))
        except Exception:
            # An unexpected error must not end the loop: everything behind it would wait forever.
            log.exception("a background loop failed and tries again", loop=self._name)
        else:
            self._backoff = self._retry_after
            return wait
        backoff, self._backoff = self._backoff, min(2 * self._backoff, self._longest_retry)
        return backoff
