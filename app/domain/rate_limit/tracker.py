"""Which window it is now, learned from our clock and from the ends of windows that answers report."""

from dataclasses import dataclass

from app.domain.rate_limit.window import FIRST_OVERRUN, NEVER, WINDOW_SECONDS, Permits, Window

_UNKNOWN = float("inf")
# Up to this difference between our clock and Sailthru's, a reported end is good in our clock too.
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
        unreported: calls that ended without reporting a window, since the last answer that did.
        unreported_before: the same for the window before. Older ones are dropped: otherwise an outage would use up
            the limit for good.
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

    def __init__(self, started: float) -> None:
        self.window = Window(started)
        self.calls = OpenCalls()
        self._former: Window | None = None
        # Calls in flight when the former window ended. Their answers may still report that window.
        self._late_answers = 0
        # In our clock a window ends between its reported end plus `_earliest` and its reported end plus `_latest`.
        self._earliest, self._latest = NEVER, _UNKNOWN

    @property
    def reported_end(self) -> int | None:
        """How Sailthru will report the end of this window: as it did, else as expected; None before any answer."""
        if self.window.reported_end is not None:
            return round(self.window.reported_end)
        if self._latest == _UNKNOWN:
            return None
        return round((self.window.ends - self._latest) / WINDOW_SECONDS) * round(WINDOW_SECONDS)

    @property
    def is_same_clock(self) -> bool:
        """False once an answer has shown that Sailthru's clock is ahead of ours."""
        return self._earliest <= _SAME_CLOCK_SECONDS

    def advance(self, now: float) -> None:
        """Move to the window of this moment. If our clock was set back, the window begins again."""
        window = self.window
        if now < window.started:
            window.started = now
            self._earliest = NEVER
            self._latest = _UNKNOWN if window.reported_end is None else now + WINDOW_SECONDS - window.reported_end
        elif now >= window.ends:
            windows = (now - window.started) // WINDOW_SECONDS
            if windows > 1:
                self.calls.unreported = 0
            self._begin(window.started + windows * WINDOW_SECONDS)
        self.window.permits.updated_at = min(self.window.permits.updated_at, now)

    def observe(self, reported_end: float, now: float) -> bool:
        """Move to the window that an answer reported; False if that window is over and the answer came late."""
        window, former = self.window, self._former
        if window.reported_end == reported_end:
            self._earliest = max(self._earliest, now - reported_end)
            return True
        if window.reported_end is not None:
            if reported_end < window.reported_end:
                return False
            self._begin(now)
            # The call whose answer reports the window counts in it.
            self.window.permits.carried_over += 1
        elif former is not None and former.reported_end is not None and reported_end <= former.reported_end:
            if self._late_answers:
                self._late_answers -= 1
                return False
            if reported_end == former.reported_end:
                self._resume(former, now)
                return True
        self._identify(reported_end, now)
        return True

    def skip_to(self, reported_end: float, now: float) -> None:
        """Move to a newer window that another replica has seen."""
        if self.window.reported_end is not None:
            self._begin(now)
        self._identify(reported_end, now)

    def end_at(self, until: float) -> None:
        """Let the current window end at this moment of our clock."""
        self.window.started = until - WINDOW_SECONDS
        if self.window.reported_end is not None:
            self._latest = until - self.window.reported_end

    def trust_reported_end(self) -> None:
        """Let the current window end soon after its reported end, as if the clocks agreed."""
        if self.window.reported_end is not None:
            self._latest = min(self._latest, _TRUSTED_END_SLACK)
            self.window.started = self.window.reported_end + self._latest - WINDOW_SECONDS

    def uncounted_in_flight(self) -> int:
        """Return the calls in flight that cannot belong to the former window."""
        return max(0, self.calls.unanswered - self._late_answers)

    def _begin(self, started: float) -> None:
        last, calls = self.window, self.calls
        if last.reported_end is not None:
            self._former, self._late_answers = last, calls.unanswered
        self.window = Window(
            started,
            backfills=min(last.backfills, calls.unanswered),
            others_before=last.others_before if last.reported_end is None else last.others,
            permits=Permits(carried_over=calls.unanswered + calls.unreported),
        )
        calls.unreported_before, calls.unreported = calls.unreported, 0

    def _resume(self, former: Window, now: float) -> None:
        """Go back to the window that seemed over: a call that left since then was counted in it."""
        former.backfills += self.window.backfills
        former.permits.carried_over += self.window.sent
        if now - former.ends > _CLOCK_WAS_SET_SECONDS:
            former.started, former.overrun = now, FIRST_OVERRUN
            self._earliest = NEVER
        else:
            former.started = now + min(former.overrun, WINDOW_SECONDS) - WINDOW_SECONDS
            former.overrun *= 2
        self.window, self._former = former, None
        if former.reported_end is not None:
            self._latest = former.ends - former.reported_end

    def _identify(self, reported_end: float, now: float) -> None:
        """Assign the reported end to the current window. It has begun by now, so its end lies at most one window ahead.

        Calls that were granted before any window was known move into this one.
        """
        latest = now + WINDOW_SECONDS - reported_end
        if reported_end + self._latest <= now or latest < self._earliest:
            self._earliest, self._latest = NEVER, latest
        self._earliest, self._latest = max(self._earliest, now - reported_end), min(self._latest, latest)
        self.window.reported_end = reported_end
        self.window.started = reported_end + self._latest - WINDOW_SECONDS
        permits = self.window.permits
        permits.granted -= permits.unplaced
        permits.carried_over += permits.unplaced
        permits.unplaced = 0
