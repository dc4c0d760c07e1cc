"""The clock that measures leases: this machine's clock for SQLite, the database server's clock for PostgreSQL."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

ASK_EVERY_SECONDS = 1.0


def wall_clock() -> datetime:
    """Return the time of this machine, aware and in UTC."""
    return datetime.now(UTC)


class StoreClock:
    """An estimate of the database server's clock, so that replicas whose own clocks differ agree on when a lease ends.

    An answer of the server shows its clock at some moment between question and answer. The estimate stays unchanged
    while it fits the newest answer; otherwise it moves by the smallest step that fits. Between answers it follows a
    monotonic clock.

    Args:
        monotonic: returns seconds that never go backwards.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # Time of the server's clock when the monotonic clock shows zero.
        self._zero: datetime | None = None
        self._learned_at = float("-inf")

    def __call__(self) -> datetime:
        """Return the time, aware and in UTC. Before the first answer this is the machine's own time."""
        if self._zero is None:
            return wall_clock()
        return self._zero + timedelta(seconds=self._monotonic())

    @property
    def is_old(self) -> bool:
        """True if the last answer of the server is at least one second old."""
        return self._monotonic() - self._learned_at >= ASK_EVERY_SECONDS

    def learn(self, shown: datetime, asked_at: float, answered_at: float) -> None:
        """Adjust the estimate to what the server's clock showed between two moments of the monotonic clock."""
        earliest, latest = shown - timedelta(seconds=answered_at), shown - timedelta(seconds=asked_at)
        known = self._zero if self._zero is not None else earliest + (latest - earliest) / 2
        self._zero = min(max(known, earliest), latest).astimezone(UTC)
        self._learned_at = answered_at
