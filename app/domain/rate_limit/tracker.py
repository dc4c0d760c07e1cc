"""Tracks the current window of a rate limit by our clock and by the window ends that answers report."""

from dataclasses import dataclass

from app.domain.rate_limit.window import FIRST_OVERRUN, NEVER, WINDOW_SECONDS, Permits, Window

_UNKNOWN = float("inf")
# If our clock and Sailthru's differ by at most this much, a reported end is valid in our clock too.
_SAME_CLOCK_SECONDS = 2.0
# A window that lasts this much longer than expected shows that our clock was set forward.
_CLOCK_WAS_SET_SECONDS = 5.0
# A trusted reported end may still be this far off.
_TRUSTED_END_SLACK = 1.0


@dataclass
class OpenCalls:
    """Own calls that no answer has assigned to a window, so they may count in the current one.

    Attributes:
        in_flight: calls that have not ended.
        answered: calls in flight whose answer has reported a window; their body is still being read.
        unreported: calls that ended without reporting a window, since the last answer that reported one.
        unreported_before: the same for the previous window. Older calls are dropped: otherwise an outage would use up
            the limit permanently.
    """

    in_flight: int = 0
    answered: int = 0
    unreported: int = 0
    unreported_before: int = 0

    @property
    def unanswered(self) -> int:
        return self.in_flight - self.answered

    @property
    def uncertain(self) -> int:
        return self.unanswered + self.unreported + self.unreported_before


class WindowTracker:
    """The current window of one method and endpoint. Times are seconds since 1970 in our clock."""

    def __init__(self, started_at: float) -> None:
        self.window = Window(started_at)
        self.calls = OpenCalls()
        self._previous: Window | None = None
        # Calls in flight when the previous window ended. Their answers may still report that window.
        self._late_answers = 0
        # In our clock a window ends between its reported end plus `_earliest` and its reported end plus `_latest`.
        self._earliest, self._latest = NEVER, _UNKNOWN

    @property
    def reported_end(self) -> int | None:
        """The end of this window in Sailthru's clock: as reported, otherwise as expected; None before any answer."""
        if self.window.reported_end is not None:
            return round(self.window.reported_end)
        if self._latest == _UNKNOWN:
            return None
        return round((self.window.ends_at - self._latest) / WINDOW_SECONDS) * round(WINDOW_SECONDS)

    @property
    def is_same_clock(self) -> bool:
        """False once an answer has shown that Sailthru's clock is ahead of ours."""
        return self._earliest <= _SAME_CLOCK_SECONDS

    def advance(self, now: float) -> None:
        """Move to the window that contains `now`. If our clock was set back, the window begins again."""
        window = self.window
        if now < window.started_at:
            window.started_at = now
            self._earliest = NEVER
            self._latest = _UNKNOWN if window.reported_end is None else now + WINDOW_SECONDS - window.reported_end
        elif now >= window.ends_at:
            windows = (now - window.started_at) // WINDOW_SECONDS
            if windows > 1:
                self.calls.unreported = 0
            self._begin(window.started_at + windows * WINDOW_SECONDS)
        self.window.permits.updated_at = min(self.window.permits.updated_at, now)

    def observe(self, reported_end: float, now: float) -> bool:
        """Move to the window that an answer reported. Return False if that window is already over."""
        window, previous = self.window, self._previous
        if window.reported_end == reported_end:
            self._earliest = max(self._earliest, now - reported_end)
            return True
        if window.reported_end is not None:
            if reported_end < window.reported_end:
                return False
            self._begin(now)
            # The call whose answer reports the window counts in it.
            self.window.permits.carried_over += 1
        elif previous is not None and previous.reported_end is not None and reported_end <= previous.reported_end:
            if self._late_answers:
                self._late_answers -= 1
                return False
            if reported_end == previous.reported_end:
                self._resume(previous, now)
                return True
        self._identify(reported_end, now)
        return True

    def skip_to(self, reported_end: float, now: float) -> None:
        """Move to a newer window that another replica has seen."""
        if self.window.reported_end is not None:
            self._begin(now)
        self._identify(reported_end, now)

    def end_at(self, until: float) -> None:
        """Set the end of the current window in our clock."""
        self.window.started_at = until - WINDOW_SECONDS
        if self.window.reported_end is not None:
            self._latest = until - self.window.reported_end

    def trust_reported_end(self) -> None:
        """Set the end of the current window to its reported end, as if the clocks agreed."""
        if self.window.reported_end is not None:
            self._latest = min(self._latest, _TRUSTED_END_SLACK)
            self.window.started_at = self.window.reported_end + self._latest - WINDOW_SECONDS

    def uncounted_in_flight(self) -> int:
        """Return how many calls in flight cannot belong to the previous window."""
        return max(0, self.calls.unanswered - self._late_answers)

    def _begin(self, started_at: float) -> None:
        last, calls = self.window, self.calls
        if last.reported_end is not None:
            self._previous, self._late_answers = last, calls.unanswered
        self.window = Window(
            started_at,
            backfills=min(last.backfills, calls.unanswered),
            others_before=last.others_before if last.reported_end is None else last.others,
            permits=Permits(carried_over=calls.unanswered + calls.unreported),
        )
        calls.unreported_before, calls.unreported = calls.unreported, 0

    def _resume(self, previous: Window, now: float) -> None:
        """Return to the previous window. It is not over yet, since a later call was counted in it."""
        previous.backfills += self.window.backfills
        previous.permits.carried_over += self.window.sent
        if now - previous.ends_at > _CLOCK_WAS_SET_SECONDS:
            previous.started_at, previous.overrun = now, FIRST_OVERRUN
            self._earliest = NEVER
        else:
            previous.started_at = now + min(previous.overrun, WINDOW_SECONDS) - WINDOW_SECONDS
            previous.overrun *= 2
        self.window, self._previous = previous, None
        if previous.reported_end is not None:
            self._latest = previous.ends_at - previous.reported_end

    def _identify(self, reported_end: float, now: float) -> None:
        """Assign a reported end to the current window. The end lies at most one window ahead.

        Calls that were granted before any window was known move into this window.
        """
        latest = now + WINDOW_SECONDS - reported_end
        if reported_end + self._latest <= now or latest < self._earliest:
            self._earliest, self._latest = NEVER, latest
        self._earliest, self._latest = max(self._earliest, now - reported_end), min(self._latest, latest)
        self.window.reported_end = reported_end
        self.window.started_at = reported_end + self._latest - WINDOW_SECONDS
        permits = self.window.permits
        permits.granted -= permits.unplaced
        permits.carried_over += permits.unplaced
        permits.unplaced = 0
