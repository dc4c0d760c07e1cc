"""Decides when to call again after a failure, and when to give up."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits double from `first_wait` up to `longest_wait`. Retries end `window` after the first failed attempt."""

    first_wait: timedelta = timedelta(seconds=5)
    longest_wait: timedelta = timedelta(hours=1)
    window: timedelta = timedelta(hours=76)

    def next_attempt_at(self, *, attempts: int, failed_at: datetime, draw: float) -> datetime:
        """Return when to call again for a member.

        Each wait is shortened at random by up to a quarter, so that members that failed together are spread out.

        Args:
            attempts: number of attempts, including the failed one; 1 or more.
            draw: a random number from 0 to 1.
        """
        doublings = min(attempts - 1, 32)
        wait = min(self.first_wait * (1 << doublings), self.longest_wait)
        return failed_at + wait * (1 - draw / 4)

    def is_over(self, *, first_failed_at: datetime | None, now: datetime) -> bool:
        """Return whether the retry window, which starts at the first failed attempt, is over."""
        return first_failed_at is not None and now - first_failed_at >= self.window
