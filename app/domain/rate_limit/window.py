"""One window of a rate limit: which calls count in it, ours and those of other tools.

Sailthru counts calls per calendar minute and names each window by its end, in its own clock. The reported end only
identifies the window. The end in our clock is derived from the answers, so clocks may differ.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter

# Sailthru counts by calendar minute, so its window never lasts longer.
LONGEST_WINDOW = timedelta(minutes=1)
SHORTEST_WINDOW = timedelta(seconds=1)
WINDOW_SECONDS = LONGEST_WINDOW.total_seconds()
NEVER = float("-inf")
# Extension in seconds of a window that lasts longer than expected. It doubles each time.
FIRST_OVERRUN = 1.0
# After the last known point, other tools are expected to continue at the rate of these last seconds.
_TREND_SECONDS = 20.0
# When other tools call more than in the previous window, extrapolate as if the window had begun this much earlier.
_CAUTION_SECONDS = 3.0
# Calls of other tools that no answer reported for this long were probably not made.
_FRESH_SECONDS = 3.0


def window_ends_at(resets_at: datetime | None, now: datetime) -> datetime:
    """When a used-up rate limit resets.

    The result is at least one second and at most one minute ahead, however much the two clocks differ.
    """
    latest = now + LONGEST_WINDOW
    return latest if resets_at is None else min(max(resets_at, now + SHORTEST_WINDOW), latest)


class Usage:
    """Calls that other tools had made by each second of one window, as far as answers reported them."""

    def __init__(self) -> None:
        self._points = [(0.0, 0)]

    @property
    def known(self) -> int:
        return self._points[-1][1]

    @property
    def known_at(self) -> float:
        """The second of the window that `known` belongs to."""
        return self._points[-1][0]

    def add(self, second: float, calls: int) -> None:
        """Record that other tools had made at least `calls` by `second`. One point per second is stored."""
        latest, most = self._points[-1]
        point = (max(second, latest), max(calls, most))
        if int(point[0]) == int(latest):
            self._points[-1] = point
        else:
            self._points.append(point)

    def by(self, second: float) -> float:
        """Return the calls made by `second`: interpolated between known points, extrapolated after the last one."""
        latest, most = self._points[-1]
        if second >= latest:
            per_second = (most - self._interpolate(latest - _TREND_SECONDS)) / _TREND_SECONDS
            return most + per_second * (second - latest)
        return self._interpolate(second)

    def _interpolate(self, second: float) -> float:
        after = bisect_right(self._points, second, key=itemgetter(0))
        if after in {0, len(self._points)}:
            return self._points[max(after - 1, 0)][1]
        (earlier, fewer), (later, more) = self._points[after - 1 : after + 1]
        return fewer + (more - fewer) * (second - earlier) / (later - earlier)


@dataclass
class Permits:
    """Calls of one window that the shared limit granted to this process. Without sharing, there are none.

    Attributes:
        held: granted calls that were not made yet.
        updated_at: when the last grant arrived.
        granted: own calls that the shared limit has counted in this window, `held` included.
        unplaced: calls granted before any window was known, so they were counted in the newest one.
        carried_over: calls granted in another window that may count in this one and are still to be reported.
        backfills_reported: own backfill calls that the shared limit knows of.
        replica_calls, replica_backfills: calls that other replicas have taken of this window.
        replicas_known_at: when the last grant reported them.
    """

    held: int = 0
    updated_at: float = NEVER
    granted: int = 0
    unplaced: int = 0
    carried_over: int = 0
    backfills_reported: int = 0
    replica_calls: int = 0
    replica_backfills: int = 0
    replicas_known_at: float = NEVER


@dataclass
class Window:
    """One window of the account's limit.

    Attributes:
        started_at: the latest moment, in our clock, at which it may have begun.
        reported_end: identifies the window; None until an answer has reported it.
        answers: own calls whose answers reported this window. The first window also includes the calls before ours.
        unreported: own calls that ended without reporting a window but may count in this one.
        sent: own calls that left in this window.
        backfills: own calls for backfills.
        used: highest number of calls of the whole account that an answer reported.
        overrun: how much longer the window lasts if it proves not to be over.
        others, others_before: calls of other tools, in this window and in the previous one.
        last_report: the second at which an answer reported `used`, and the calls in it that this process did not make.
    """

    started_at: float
    reported_end: float | None = None
    answers: int = 0
    unreported: int = 0
    sent: int = 0
    backfills: int = 0
    used: int = 0
    overrun: float = FIRST_OVERRUN
    others: Usage = field(default_factory=Usage)
    others_before: Usage = field(default_factory=Usage)
    last_report: tuple[float, int] = (0.0, 0)
    permits: Permits = field(default_factory=Permits)

    @property
    def ends_at(self) -> float:
        """The latest moment, in our clock, at which it may end."""
        return self.started_at + WINDOW_SECONDS

    @property
    def all_backfills(self) -> int:
        """Backfill calls of all replicas."""
        return self.backfills + self.permits.replica_backfills

    def expected_of_others(self, now: float) -> float:
        """Return how many calls other tools will have made at the end of this window.

        They are expected to repeat the rest of the previous window. If they are ahead of its same second, the excess is
        expected to continue.
        """
        before, others = self.others_before, self.others
        second = min(max(others.known_at, now - self.started_at - _FRESH_SECONDS), WINDOW_SECONDS)
        rest = before.by(WINDOW_SECONDS) - before.by(second)
        excess = max(0.0, others.known - before.by(others.known_at))
        rest += excess * (WINDOW_SECONDS - second) / (second + _CAUTION_SECONDS)
        return others.known + rest
