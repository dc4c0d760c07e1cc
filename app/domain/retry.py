"""Decides when to call again after a failure, and when to give up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Sailthru counts by calendar minute, so its window never lasts longer.
LONGEST_WINDOW = timedelta(minutes=1)
SHORTEST_WINDOW = timedelta(seconds=1)


def window_ends_at(resets_at: datetime | None, now: datetime) -> datetime:
    """Return when a used-up rate limit resets.

    The result is at least one second and at most one minute ahead, even if the clocks differ.
    """
    latest = now + LONGEST_WINDOW
    return latest if resets_at is None else min(max(resets_at, now + SHORTEST_WINDOW), latest)


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
