"""When to call again after a failure, and when to give up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Sailthru counts by calendar minute, so its window never lasts longer.
LONGEST_WINDOW = timedelta(minutes=1)
SHORTEST_WINDOW = timedelta(seconds=1)


def window_ends_at(resets_at: datetime | None, now: datetime) -> datetime:
    """When a used-up limit is whole again: as the answer says, but within a minute, whatever the two clocks make of
    it.
    """
    latest = now + LONGEST_WINDOW
    return latest if resets_at is None else min(max(resets_at, now + SHORTEST_WINDOW), latest)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits that double from `first_wait` up to `longest_wait`, for as long as `window` after the first failed
    attempt.
    """

    first_wait: timedelta = timedelta(seconds=5)
    longest_wait: timedelta = timedelta(hours=1)
    window: timedelta = timedelta(hours=76)

    def next_attempt_at(self, *, attempts: int, failed_at: datetime, draw: float) -> datetime:
        """When to call for a member again.

        Doubles from `first_wait` up to `longest_wait`, less up to a quarter at random, so that members that failed
        together do not return together.

        Args:
            attempts: made so far, the failed one included; 1 or more.
            failed_at, draw: the clock (aware, UTC) and the dice (0 to 1), passed in so that a test is exact.
        """
        doublings = min(attempts - 1, 32)
        wait = min(self.first_wait * (1 << doublings), self.longest_wait)
        return failed_at + wait * (1 - draw / 4)

    def is_over(self, *, first_failed_at: datetime | None, now: datetime) -> bool:
        """True once a change has been failing for the whole window, counted from its first failed attempt."""
        return first_failed_at is not None and now - first_failed_at >= self.window
