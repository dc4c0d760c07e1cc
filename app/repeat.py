"""A background loop that repeats a task after an interval, on a wake-up, or after a back-off, until it is stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from app.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Unfinished(Exception):
    """A task has not finished its work. The loop repeats it after the back-off, without a log line."""


class Repeat:
    """Runs a task at once and then repeatedly.

    The task returns the wait until its next run, or None to wait for a wake-up. After a failure, the loop logs the
    error and waits `retry_after`. The wait doubles with each further failure. A success or a wake-up resets it.

    Args:
        name: the loop's name in the log.
        longest_retry: the longest wait after a failure; None for a constant wait of `retry_after`.
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
        """True after `stop`. A long task checks it between steps."""
        return self._is_stopped

    def wake(self) -> None:
        """Run the task at once. If it is running, run it once more afterwards."""
        self._woken.set()

    def stop(self) -> None:
        """Stop the loop. A running task finishes first."""
        self._is_stopped = True
        self._woken.set()

    async def run(self) -> None:
        """Run until the loop is stopped."""
        while not self._is_stopped:
            # Clear the event before the task runs, so that a wake-up during the task is not lost.
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
            log.warning("store unavailable, retrying", loop=self._name, why=str(error))
        except Exception:
            # An unexpected error must not end the loop, because its work would stop until a restart.
            log.exception("background loop failed, retrying", loop=self._name)
        else:
            self._backoff = self._retry_after
            return wait
        backoff, self._backoff = self._backoff, min(2 * self._backoff, self._longest_retry)
        return backoff
