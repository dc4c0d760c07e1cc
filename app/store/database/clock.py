"""The clock by which leases are measured: the process's own where one process owns the database, else the
database's.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

ASK_EVERY_SECONDS = 1.0


def wall_clock() -> datetime:
    """The time of this machine, aware and in UTC."""
    return datetime.now(UTC)


class StoreClock:
    """The database's clock as far as this process knows it, which never looks at its own: replicas whose clocks
    differ by hours agree on when a lease ends.

    Each answer of the database says that its clock showed `told` at some moment between question and answer. What is
    known is kept while it fits that, else moved as little as makes it fit; in between, a monotonic clock carries on.

    Args:
        monotonic: seconds that only go forward.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # What the database's clock shows when the monotonic one shows zero.
        self._zero: datetime | None = None
        self._learned_at = float("-inf")

    def __call__(self) -> datetime:
        """The time, aware and in UTC; this machine's own until the database was asked for the first time."""
        if self._zero is None:
            return wall_clock()
        return self._zero + timedelta(seconds=self._monotonic())

    @property
    def is_old(self) -> bool:
        """True if the database has not been asked for a second."""
        return self._monotonic() - self._learned_at >= ASK_EVERY_SECONDS

    def learn(self, confirmed: datetime, asked_at: float, answered_at: float) -> None:
        """Take in what the database's clock showed between two moments of the monotonic one."""
        earliest, latest = confirmed - timedelta(seconds=answered_at), confirmed - timedelta(seconds=asked_at)
        known = self._zero if self._zero is not None else earliest + (latest - earliest) / 2
        self._zero = min(max(known, earliest), latest).astimezone(UTC)
        self._learned_at = answered_at
