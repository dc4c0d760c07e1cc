"""Budget: how many calls of one account may leave now, from its limit, our share of it and what others use of it.

The other end counts the calls of everybody by method and endpoint, in windows of a minute that its answers name by
their end. That end is taken as a name only: where the window ends by our clock is learned from the answers, so that
two clocks that differ do no harm.
"""

from datetime import timedelta
from math import ceil, floor

from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.domain.rate_limit.window import _NUDGE, _WINDOW, _Window
from app.domain.retry import SHORTEST_WINDOW

# Of a shared budget: so many calls at once are taken of it, for all but small limits; what is not used within some
# seconds is given back.
LARGEST_BLOCK, BLOCKS_IN_A_WINDOW = 20, 50
TOKEN_LASTS = timedelta(seconds=2)
# How far calls may run ahead of an even spread over the window: a burst goes at once, and the last call of a window
# leaves this long before its end.
LOOKAHEAD = timedelta(seconds=10)
BACKFILL_SHARE = 0.8
# Of the limit, left free beside what others are expected to use.
MARGIN = 0.01
# Calls at once in a window that no answer has told of yet.
MOST_UNCONFIRMED = 8
# A live call that found no room keeps backfills back until it has had time to return.
LIVE_GOES_FIRST = timedelta(seconds=5)
ANSWER_WAIT = timedelta(milliseconds=100)
FOREIGN_WAIT = timedelta(seconds=1)

_LOOKAHEAD = LOOKAHEAD.total_seconds()
# Others' calls are extrapolated from the window's beginning with care: as if it had begun this much earlier.
_CARE = 3.0
# Others' calls that no answer has told for so long are thought not to have been made; until then they are expected.
_FRESH = 3.0
# What the other processes of a shared budget have taken is asked for again after so long, where it leaves no room.
_SIBLINGS_ARE_KNOWN = 1.0
# By how much a window may outlive its named end before our clock and theirs count as different.
_SAME_CLOCK = 2.0
# A window that goes on for so long after it seemed over shows that it is our clock that is wrong.
_SAME_WINDOW = 5.0


class _Bucket:
    """The calls of one method and endpoint. Times are seconds since 1970."""

    def __init__(self, share: float, window: _Window, *, is_shared: bool) -> None:
        self._share = share
        self._is_shared = is_shared
        self._limit: int | None = None
        self._window = window
        # The window that time ended, and how many of the calls that were under way then may still tell of it.
        self._former: _Window | None = None
        self._strays = 0
        # A window ends by our clock between its name plus the one and its name plus the other.
        self._earliest, self._latest = float("-inf"), float("inf")
        self._under_way = 0
        # Those of the calls under way whose headers have come.
        self._heard = 0
        # Calls that have ended without telling a window since the last one that told it: in this window, and in the one
        # before. Those from further back count in none that is to come: else an outage would use up the limit for good.
        self._silent = self._silent_before = 0
        self._shut_until = float("-inf")
        self._live_refused_at = float("-inf")

    def move_to(self, now: float) -> None:
        """The window of this moment: the next one where the last is over, the same again where the clock was set
        back.
        """
        window = self._window
        if now < window.started:
            window.started = now
            self._forget_border(now)
        elif now >= window.ends:
            minutes = (now - window.started) // _WINDOW
            if minutes > 1:
                self._silent = 0
            self._begin(window.started + minutes * _WINDOW)
        self._shut_until = min(self._shut_until, now + _WINDOW)
        self._live_refused_at = min(self._live_refused_at, now)
        self._window.tokens_at = min(self._window.tokens_at, now)

    def room(self, now: float, *, backfill: bool) -> int:
        """See `Budget.room`."""
        room = self._room(now, backfill=backfill)
        return min(room, self._window.tokens) if self._is_shared else room

    def has_room(self, now: float, *, backfill: bool) -> bool:
        """Whether calls may leave, as soon as there are tokens for them."""
        return self._room(now, backfill=backfill) > 0

    def left(self, now: float) -> int:
        """See `Budget.left`."""
        return self._room(now, backfill=False)

    @property
    def asks_at(self) -> float:
        """When tokens are worth asking for again, where none were to be had."""
        window = self._window
        return window.tokens_at + ANSWER_WAIT.total_seconds() if self._is_shared and window.tokens <= 0 else 0.0

    def wish(self, now: float, count: int, *, backfill: bool) -> ShareRequest | None:
        """See `Budget.wish`."""
        window = self._window
        room = self._askable(now, backfill=False)
        wanted = min(count, room)
        if backfill:
            wanted = max(min(1, room), min(count, self._askable(now, backfill=True)))
        is_stale = now - window.tokens_at >= TOKEN_LASTS.total_seconds()
        returned = max(0, window.tokens - wanted) if is_stale else 0
        in_hand = window.tokens - returned
        if in_hand >= wanted and not returned and not window.carried:
            return None
        most = None
        if self._limit is not None and self._name_of_window is not None:
            most = self._allowed(now, self._limit)
            if window.granted and not in_hand and not backfill:
                # All that there were have been used: soon more will be.
                block = min(LARGEST_BLOCK, self._usable(now, self._limit) // BLOCKS_IN_A_WINDOW)
                wanted = max(wanted, min(block, room))
        return ShareRequest(
            self._name_of_window,
            most,
            max(0, wanted - in_hand),
            returned,
            window.backfills - window.reported,
            window.carried,
        )

    def granted(self, wish: ShareRequest, given: ShareGrant, now: float) -> None:
        """See `Budget.granted`."""
        window, name = self._window, self._name_of_window
        if name is not None and name < given.newest <= name + _WINDOW:
            # Another process has seen that this window is over.
            self._move_on(given.newest, now)
        if wish.window_ends is not None and wish.window_ends != self._name_of_window:
            # Of a window that is over meanwhile; nobody uses them.
            return
        window.tokens += given.tokens - wish.returned
        window.granted += given.tokens - wish.returned + wish.carried
        window.tokens_at = now
        window.reported += wish.backfills
        window.carried -= wish.carried
        if wish.window_ends is None:
            window.nameless += given.tokens
            return
        window.siblings = max(0, given.taken - window.granted)
        window.siblings_backfills = max(0, given.backfills - window.reported)
        window.siblings_at = now
        # All that any of us had taken when an answer told this is known by now: the rest is of others.
        second, of_all_others = window.seen
        window.foreign.add(second, of_all_others - window.siblings)

    def _askable(self, now: float, *, backfill: bool) -> int:
        """Room, if what other processes had taken some time ago was given back."""
        window = self._window
        if now - window.siblings_at < _SIBLINGS_ARE_KNOWN:
            return self._room(now, backfill=backfill)
        siblings, window.siblings = window.siblings, 0
        try:
            return self._room(now, backfill=backfill)
        finally:
            window.siblings = siblings

    @property
    def _name_of_window(self) -> int | None:
        """As it was told, or as is to be expected by the border between windows; None before any was told."""
        window = self._window
        if window.name is not None:
            return round(window.name)
        if self._latest == float("inf"):
            return None
        return round((window.ends - self._latest) / _WINDOW) * round(_WINDOW)

    def _room(self, now: float, *, backfill: bool) -> int:
        if now < self._shut_until:
            return 0
        if self._limit is None:
            return 0 if self._under_way else 1
        allowed = self._allowed(now, self._limit)
        room = min(allowed - self._own, self._limit - self._window.used - self._unsure)
        if self._window.name is None:
            room = min(room, MOST_UNCONFIRMED - max(0, self._unanswered - self._strays))
        if backfill:
            is_behind = now - self._live_refused_at < LIVE_GOES_FIRST.total_seconds()
            backfills = self._window.backfills + self._window.siblings_backfills
            room = 0 if is_behind else min(room, _of_backfills(allowed) - backfills)
        return max(0, room)

    def take(self, now: float, *, backfill: bool) -> bool:
        """See `Budget.take`."""
        has_room = self.room(now, backfill=backfill) > 0
        if has_room:
            self._under_way += 1
            self._window.backfills += backfill
            self._window.left += 1
            self._window.tokens -= self._is_shared
        if not backfill:
            self._live_refused_at = float("-inf") if has_room else now
        return has_room

    def ended(self, *, was_sent: bool) -> None:
        """See `Budget.ended`."""
        if not self._under_way:
            return
        self._under_way -= 1
        if self._heard:
            self._heard -= 1
        elif was_sent:
            self._silent += 1
        elif self._is_shared:
            # Its token is not given back: it may be of the window before.
            self._window.silent += 1

    def learn(self, limit: int, used: int, name: float, now: float) -> None:
        """See `Budget.learn`."""
        self._heard = min(self._heard + 1, self._under_way)
        if not self._is_current(name, now):
            return
        window = self._window
        # What a shared budget has told of this window is known; all else may be of this service, before a restart.
        if self._limit is None and not self._is_shared:
            self._inherit(used - 1, _ours(self._share, limit), now)
        if self._limit is None or limit < self._limit or used >= window.used:
            self._limit = limit
        window.answers += 1
        window.silent += self._silent + self._silent_before
        self._silent = self._silent_before = 0
        window.used = max(window.used, used)
        if self._is_shared:
            window.seen = (now - window.started, window.used - self._ours_left)
        else:
            window.foreign.add(now - window.started, window.used - self._ours_left)

    def _inherit(self, calls: int, ours: int, now: float) -> None:
        """Whoever called in this minute before our first answer may have been this service, before a restart.

        Where nothing is left to us, the window's end by the other clock is believed: if it proves wrong, a handful
        has left early, and if it is right, nobody waits for longer than until then.
        """
        window = self._window
        window.answers = max(0, calls)
        if calls >= ours and window.name is not None and now < window.name:
            self._latest = min(self._latest, _NUDGE)
            window.started = window.name + self._latest - _WINDOW

    def exhausted(self, resets: float | None, now: float) -> None:
        """See `Budget.exhausted`."""
        window = self._window
        until = window.ends if window.name is not None else now + _WINDOW
        if resets is not None and now < resets and self._earliest <= _SAME_CLOCK:
            until = min(until, resets)
        until = min(max(until, now + SHORTEST_WINDOW.total_seconds()), now + _WINDOW)
        window.started = until - _WINDOW
        if window.name is not None:
            self._latest = until - window.name
        window.used = max(window.used, self._limit or 0)
        self._shut_until = until

    def opens_at(self, now: float, *, backfill: bool) -> float:
        """When there may be room again, where there is none now."""
        if now < self._shut_until:
            return self._shut_until
        soon = now + ANSWER_WAIT.total_seconds()
        if self._limit is None or self.awaits_answer(now):
            return soon
        window, usable = self._window, self._usable(now, self._limit)
        needed, most = self._own + 1, usable
        backfills = window.backfills + window.siblings_backfills
        if backfill and backfills >= _of_backfills(self._allowed(now, self._limit)):
            needed, most = ceil((backfills + 1) / BACKFILL_SHARE), usable
        if needed > most:
            is_all_ours = usable >= _ours(self._share, self._limit)
            return window.ends if is_all_ours else min(window.ends, now + FOREIGN_WAIT.total_seconds())
        at = window.started + _WINDOW * (needed - 1) / usable - _LOOKAHEAD
        if at > now:
            return at
        return soon if self._unanswered else min(window.ends, now + FOREIGN_WAIT.total_seconds())

    def awaits_answer(self, now: float) -> bool:
        """See `Budget.awaits_answer`."""
        is_unknown = self._limit is None or self._window.name is None
        return is_unknown and self._under_way > 0 and now >= self._shut_until

    @property
    def _unanswered(self) -> int:
        return self._under_way - self._heard

    @property
    def _unsure(self) -> int:
        """Calls of which nobody has told the window: they may count in this one."""
        return self._unanswered + self._silent + self._silent_before

    @property
    def _own(self) -> int:
        """Our calls that may count in this window, with those of processes that share the budget. One under way at its
        beginning counts here and in the one before.
        """
        return self._ours_left + self._window.siblings

    @property
    def _ours_left(self) -> int:
        """Those of this process."""
        window = self._window
        seen = window.answers + window.silent + self._unsure
        return max(seen, window.granted - window.tokens)

    def _allowed(self, now: float, limit: int) -> int:
        """Own calls by now: the usable ones spread evenly, some seconds ahead."""
        usable = self._usable(now, limit)
        ahead = ceil(usable * (now - self._window.started + _LOOKAHEAD) / _WINDOW)
        return min(usable, ahead)

    def _usable(self, now: float, limit: int) -> int:
        """Own calls in the whole window: our share, or what others are expected to leave of the limit, at least one.

        The others are expected to go on as in the same part of the window before; and where they have made more calls
        than by the same time then, to go on with that as well.
        """
        window = self._window
        ours = _ours(self._share, limit)
        before, foreign = window.foreign_before, window.foreign
        second = min(max(foreign.seen_at, now - window.started - _FRESH), _WINDOW)
        rest = before.by(_WINDOW) - before.by(second)
        more = max(0.0, foreign.seen - before.by(foreign.seen_at))
        rest += more * (_WINDOW - second) / (second + _CARE)
        return max(1, min(ours, limit - ceil(foreign.seen + rest) - int(limit * MARGIN)))

    def _is_current(self, name: float, now: float) -> bool:
        """Moves on to the window that an answer told; false for the answer that comes late, from a window before."""
        window, former = self._window, self._former
        if window.name == name:
            self._earliest = max(self._earliest, now - name)
            return True
        if window.name is not None:
            if name < window.name:
                return False
            self._begin(now)
            # With the call that tells it.
            self._window.carried += 1
        elif former is not None and former.name is not None and name <= former.name:
            if self._strays:
                self._strays -= 1
                return False
            if name == former.name:
                self._resume(former, now)
                return True
        self._find_border(name, now)
        return True

    def _begin(self, started: float) -> None:
        """The next window, whose name is not known yet."""
        last = self._window
        if last.name is not None:
            self._former, self._strays = last, self._unanswered
        self._window = _Window(
            started,
            backfills=min(last.backfills, self._unanswered),
            carried=self._unanswered + self._silent,
            foreign_before=last.foreign_before if last.name is None else last.foreign,
        )
        self._silent_before, self._silent = self._silent, 0

    def _resume(self, former: _Window, now: float) -> None:
        """The window that seemed over goes on: a call that left since was counted in it."""
        former.backfills += self._window.backfills
        former.carried += self._window.left
        if now - former.ends > _SAME_WINDOW:
            # Our clock was set forth: of the border we know no more than that it is within a minute.
            former.started, former.overrun = now, _NUDGE
            self._earliest = float("-inf")
        else:
            former.started = now + min(former.overrun, _WINDOW) - _WINDOW
            former.overrun *= 2
        self._window, self._former = former, None
        if former.name is not None:
            self._latest = former.ends - former.name

    def _move_on(self, name: float, now: float) -> None:
        if self._window.name is not None:
            self._begin(now)
        self._find_border(name, now)

    def _find_border(self, name: float, now: float) -> None:
        """The window has begun when its first answer is here, and other windows begin at the same second of theirs."""
        latest = now + _WINDOW - name
        if name + self._latest <= now or latest < self._earliest:
            self._earliest, self._latest = float("-inf"), latest
        self._earliest, self._latest = max(self._earliest, now - name), min(self._latest, latest)
        window = self._window
        window.name = name
        window.started = name + self._latest - _WINDOW
        window.granted -= window.nameless
        window.carried += window.nameless
        window.nameless = 0

    def _forget_border(self, now: float) -> None:
        self._earliest = float("-inf")
        self._latest = float("inf") if self._window.name is None else now + _WINDOW - self._window.name


def _ours(share: float, limit: int) -> int:
    return max(1, floor(share * limit + 1e-9))


def _of_backfills(calls: int) -> int:
    return max(1, floor(BACKFILL_SHARE * calls + 1e-9))
