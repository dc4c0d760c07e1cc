"""Decides how many calls of one method and endpoint may leave now.

The result depends on the account's limit, our share of it, and the calls of other tools. A call may leave only if it
fits even when every uncertain call counts in this window.
"""

from datetime import timedelta
from math import ceil, floor

from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.domain.rate_limit.tracker import WindowTracker
from app.domain.rate_limit.window import NEVER, SHORTEST_WINDOW, WINDOW_SECONDS, Window

# A permit is one call that the shared limit granted to this process. A busy process asks for a batch of permits at
# once: a fiftieth of our share, at most 20. Permits that stay unused for 2 s are returned.
LARGEST_BATCH, BATCHES_PER_WINDOW = 20, 50
UNUSED_PERMITS_KEPT = timedelta(seconds=2)
# How far calls may run ahead of an even spread over the window. It lets a burst leave at once, and a backlog end this
# long before the window does.
LOOKAHEAD = timedelta(seconds=10)
BACKFILL_SHARE = 0.8
# Part of the limit that stays free in addition to the expected calls of other tools.
MARGIN = 0.01
# Maximum number of calls in a window that no answer has reported yet.
MOST_UNCONFIRMED = 8
# After a live call finds no room, backfills wait this long for it.
LIVE_GOES_FIRST = timedelta(seconds=5)
ANSWER_WAIT = timedelta(milliseconds=100)
OTHERS_WAIT = timedelta(seconds=1)

_LOOKAHEAD_SECONDS = LOOKAHEAD.total_seconds()
# Counts of other replicas are current for this long. Later, ask again even without room: permits may be back.
_REPLICAS_KNOWN_SECONDS = 1.0


class Bucket:
    """The calls of one method and endpoint. Times are seconds since 1970."""

    def __init__(self, share: float, now: float, *, is_shared: bool) -> None:
        self._share = share
        self._is_shared = is_shared
        self._limit: int | None = None
        self._tracker = WindowTracker(now)
        self._calls = self._tracker.calls
        self._closed_until = NEVER
        self._live_refused_at = NEVER

    @property
    def _window(self) -> Window:
        return self._tracker.window

    def advance(self, now: float) -> None:
        """Move to the window that contains `now`. Call this before every other method."""
        self._tracker.advance(now)
        self._closed_until = min(self._closed_until, now + WINDOW_SECONDS)
        self._live_refused_at = min(self._live_refused_at, now)

    def room(self, now: float, *, backfill: bool) -> int:
        """See `RateLimiter.room`."""
        room = self.room_in_window(now, backfill=backfill)
        return min(room, self._window.permits.held) if self._is_shared else room

    def room_in_window(self, now: float, *, backfill: bool) -> int:
        """Return how many calls may leave now, provided that there are permits for them."""
        if now < self._closed_until:
            return 0
        if self._limit is None:
            return 0 if self._calls.in_flight else 1
        window = self._window
        allowed = self._allowed(now, self._limit)
        room = min(allowed - self._ours_in_window, self._limit - window.used - self._calls.uncertain)
        if window.reported_end is None:
            room = min(room, MOST_UNCONFIRMED - self._tracker.uncounted_in_flight())
        if backfill:
            must_wait = now - self._live_refused_at < LIVE_GOES_FIRST.total_seconds()
            room = 0 if must_wait else min(room, _backfill_part(allowed) - window.all_backfills)
        return max(0, room)

    def acquire(self, now: float, *, backfill: bool) -> bool:
        """See `RateLimiter.acquire`."""
        has_room = self.room(now, backfill=backfill) > 0
        if has_room:
            self._calls.in_flight += 1
            self._window.backfills += backfill
            self._window.sent += 1
            self._window.permits.held -= self._is_shared
        if not backfill:
            self._live_refused_at = NEVER if has_room else now
        return has_room

    def release(self, *, was_sent: bool) -> None:
        """See `RateLimiter.release`."""
        calls = self._calls
        if not calls.in_flight:
            return
        calls.in_flight -= 1
        if calls.answered:
            calls.answered -= 1
        elif was_sent:
            calls.unreported += 1
        elif self._is_shared:
            # The permit is not returned, since it may belong to the previous window.
            self._window.unreported += 1

    def learn(self, limit: int, used: int, reported_end: float, now: float) -> None:
        """See `RateLimiter.learn`."""
        calls = self._calls
        calls.answered = min(calls.answered + 1, calls.in_flight)
        if not self._tracker.observe(reported_end, now):
            return
        window = self._window
        # A shared limit already knows the earlier calls of this service.
        if self._limit is None and not self._is_shared:
            self._count_as_ours(used - 1, _our_part(self._share, limit), now)
        if self._limit is None or limit < self._limit or used >= window.used:
            self._limit = limit
        window.answers += 1
        window.unreported += calls.unreported + calls.unreported_before
        calls.unreported = calls.unreported_before = 0
        window.used = max(window.used, used)
        window.last_report = (now - window.started_at, window.used - self._ours_of_process)
        if not self._is_shared:
            window.others.add(*window.last_report)

    def exhaust(self, resets_at: float | None, now: float) -> None:
        """See `RateLimiter.exhaust`."""
        window = self._window
        until = window.ends_at if window.reported_end is not None else now + WINDOW_SECONDS
        if resets_at is not None and now < resets_at and self._tracker.is_same_clock:
            until = min(until, resets_at)
        until = min(max(until, now + SHORTEST_WINDOW.total_seconds()), now + WINDOW_SECONDS)
        self._tracker.end_at(until)
        window.used = max(window.used, self._limit or 0)
        self._closed_until = until

    def opens_at(self, now: float, *, backfill: bool) -> float:
        """Return when there may be room again. Call this only while there is none."""
        if now < self._closed_until:
            return self._closed_until
        soon = now + ANSWER_WAIT.total_seconds()
        if self._limit is None or self.awaits_answer(now):
            return soon
        window, usable = self._window, self._usable(now, self._limit)
        later = min(window.ends_at, now + OTHERS_WAIT.total_seconds())
        needed = self._ours_in_window + 1
        if backfill and window.all_backfills >= _backfill_part(self._allowed(now, self._limit)):
            needed = ceil((window.all_backfills + 1) / BACKFILL_SHARE)
        if needed > usable:
            return window.ends_at if usable >= _our_part(self._share, self._limit) else later
        at = window.started_at + WINDOW_SECONDS * (needed - 1) / usable - _LOOKAHEAD_SECONDS
        if at > now:
            return at
        return soon if self._calls.unanswered else later

    def awaits_answer(self, now: float) -> bool:
        """See `RateLimiter.awaits_answer`."""
        is_unknown = self._limit is None or self._window.reported_end is None
        return is_unknown and self._calls.in_flight > 0 and now >= self._closed_until

    @property
    def asks_again_at(self) -> float:
        """When to ask the shared limit again after it granted nothing; 0 while there are permits."""
        permits = self._window.permits
        is_waiting = self._is_shared and permits.held <= 0
        return max(0.0, permits.updated_at + ANSWER_WAIT.total_seconds()) if is_waiting else 0.0

    def request_share(self, now: float, count: int, *, backfill: bool) -> ShareRequest | None:
        """See `RateLimiter.request_share`."""
        window, permits = self._window, self._window.permits
        room = self._room_to_request(now, backfill=False)
        needed = min(count, room)
        if backfill:
            needed = max(min(1, room), min(count, self._room_to_request(now, backfill=True)))
        is_stale = now - permits.updated_at >= UNUSED_PERMITS_KEPT.total_seconds()
        returned = max(0, permits.held - needed) if is_stale else 0
        held = permits.held - returned
        if held >= needed and not returned and not permits.carried_over:
            return None
        allowed = None
        window_ends = self._tracker.reported_end
        if self._limit is not None and window_ends is not None:
            allowed = self._allowed(now, self._limit)
            if permits.granted and not held and not backfill:
                # This process has used all its permits, so it will soon need more.
                batch = min(LARGEST_BATCH, self._usable(now, self._limit) // BATCHES_PER_WINDOW)
                needed = max(needed, min(batch, room))
        return ShareRequest(
            window_ends,
            allowed,
            max(0, needed - held),
            returned,
            window.backfills - permits.backfills_reported,
            permits.carried_over,
        )

    def receive_share(self, request: ShareRequest, grant: ShareGrant, now: float) -> None:
        """See `RateLimiter.receive_share`."""
        # The request was made in this window, even if the grant shows that it is over.
        window, permits = self._window, self._window.permits
        window_ends = self._tracker.reported_end
        if window_ends is not None and window_ends < grant.newest_window <= window_ends + WINDOW_SECONDS:
            self._tracker.skip_to(grant.newest_window, now)
        if request.window_ends is not None and request.window_ends != self._tracker.reported_end:
            # The window of the request is over, so its permits are lost.
            return
        permits.held += grant.calls - request.returned
        permits.granted += grant.calls - request.returned + request.carried_over
        permits.updated_at = now
        permits.backfills_reported += request.backfills
        permits.carried_over -= request.carried_over
        if request.window_ends is None:
            permits.unplaced += grant.calls
            return
        permits.replica_calls = max(0, grant.taken - permits.granted)
        permits.replica_backfills = max(0, grant.backfills - permits.backfills_reported)
        permits.replicas_known_at = now
        # The grant includes all calls of replicas until the last answer. Other tools made the rest.
        second, not_ours = window.last_report
        window.others.add(second, not_ours - permits.replica_calls)

    def _room_to_request(self, now: float, *, backfill: bool) -> int:
        """Return the room without stale counts of other replicas, which may have returned permits since."""
        permits = self._window.permits
        if now - permits.replicas_known_at < _REPLICAS_KNOWN_SECONDS:
            return self.room_in_window(now, backfill=backfill)
        stale, permits.replica_calls = permits.replica_calls, 0
        try:
            return self.room_in_window(now, backfill=backfill)
        finally:
            permits.replica_calls = stale

    def _count_as_ours(self, calls: int, ours: int, now: float) -> None:
        """Count the calls before our first answer as ours: this service may have made them before a restart.

        If these calls use up our share, trust the reported end of the window, so that no call waits longer. If the end
        is wrong, only a few calls leave too early.
        """
        window = self._window
        window.answers = max(0, calls)
        if calls >= ours and window.reported_end is not None and now < window.reported_end:
            self._tracker.trust_reported_end()

    @property
    def _ours_in_window(self) -> int:
        """Calls of all replicas that may count in this window. A call in flight at its start counts in both windows."""
        return self._ours_of_process + self._window.permits.replica_calls

    @property
    def _ours_of_process(self) -> int:
        window, permits = self._window, self._window.permits
        known = window.answers + window.unreported + self._calls.uncertain
        return max(known, permits.granted - permits.held)

    def _allowed(self, now: float, limit: int) -> int:
        """Return how many of our calls may have left by now: the usable calls, spread evenly, plus the lookahead."""
        usable = self._usable(now, limit)
        ahead = ceil(usable * (now - self._window.started_at + _LOOKAHEAD_SECONDS) / WINDOW_SECONDS)
        return min(usable, ahead)

    def _usable(self, now: float, limit: int) -> int:
        """Return our calls for the whole window: our share, or less if other tools leave less; at least 1."""
        free = limit - ceil(self._window.expected_of_others(now)) - int(limit * MARGIN)
        return max(1, min(_our_part(self._share, limit), free))


def _our_part(share: float, limit: int) -> int:
    return max(1, floor(share * limit + 1e-9))


def _backfill_part(calls: int) -> int:
    return max(1, floor(BACKFILL_SHARE * calls + 1e-9))
