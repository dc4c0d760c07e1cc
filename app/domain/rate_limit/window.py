"""TODO."""

from dataclasses import dataclass, field
from itertools import pairwise

from app.domain.retry import LONGEST_WINDOW

_WINDOW = LONGEST_WINDOW.total_seconds()
# A border that came later than expected is looked for this much later, and twice as much each further time.
_NUDGE = 1.0
# How much of a window's end says how others go on when we look no longer.
_TAIL = 20.0


class _Use:
    """How many calls others had made by each moment of one window, as far as we saw."""

    def __init__(self) -> None:
        self._points = [(0.0, 0)]

    @property
    def seen(self) -> int:
        """The most we know of."""
        return self._points[-1][1]

    @property
    def seen_at(self) -> float:
        """Until which second of the window."""
        return self._points[-1][0]

    def add(self, second: float, calls: int) -> None:
        """At least so many calls by this second; one point a second is kept."""
        latest, most = self._points[-1]
        point = (max(second, latest), max(calls, most))
        if int(point[0]) == int(latest):
            self._points[-1] = point
        else:
            self._points.append(point)

    def by(self, second: float) -> float:
        """Calls by this second: even between two moments that we saw, and after the last one as just before it."""
        latest, most = self._points[-1]
        if second >= latest:
            pace = (most - self._between(latest - _TAIL)) / _TAIL
            return most + pace * (second - latest)
        return self._between(second)

    def _between(self, second: float) -> float:
        for (earlier, fewer), (later, more) in pairwise(self._points):
            if second < later:
                return fewer + (more - fewer) * max(0.0, second - earlier) / (later - earlier)
        return self._points[-1][1] if second >= self._points[-1][0] else self._points[0][1]


@dataclass
class _Window:
    """One window of the other end.

    Attributes:
        started: by our clock, at the latest.
        name: None until an answer has told it.
        answers: that told this window, an own call each; in the very first window also the calls before ours.
        silent: own calls that ended without telling a window.
        backfills: own calls of backfills.
        used: calls of everybody, the most that an answer told.
        overrun: for how long it goes on if it proves not to be over.
        foreign, foreign_before: the calls of others, in this window and in the one before.
        tokens: calls that may be made of those taken of a shared budget, since `tokens_at`.
        granted: own calls that it counts, those that may still be made among them.
        seen: by which second an answer told of how many calls of others, those of other processes among them.
        siblings, siblings_backfills: calls that other processes have taken of it, as it told at `siblings_at`.
        reported: own calls of backfills that it was told of.
        carried: own calls that were taken of another window and may count in this one, as it has to be told.
        left: own calls that left in this window.
        nameless: tokens that were granted before any window was named, so that they count in whichever was newest.
    """

    started: float
    name: float | None = None
    answers: int = 0
    silent: int = 0
    backfills: int = 0
    used: int = 0
    overrun: float = _NUDGE
    foreign: _Use = field(default_factory=_Use)
    foreign_before: _Use = field(default_factory=_Use)
    tokens: int = 0
    tokens_at: float = float("-inf")
    granted: int = 0
    seen: tuple[float, int] = (0.0, 0)
    siblings: int = 0
    siblings_backfills: int = 0
    siblings_at: float = float("-inf")
    reported: int = 0
    carried: int = 0
    left: int = 0
    nameless: int = 0

    @property
    def ends(self) -> float:
        """By our clock, at the latest."""
        return self.started + _WINDOW
