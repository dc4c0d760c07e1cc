"""
Budget: how many calls of one account may leave now, from its limit, our share of it and what others use of it.

The other end counts the calls of everybody by method and endpoint, in windows of a minute that its answers name by
their end. That end is taken as a name only: where the window ends by our clock is learned from the answers, so that
two clocks that differ do no harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from app.domain.retry import LONGEST_WINDOW, SHORTEST_WINDOW

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
# Asking more often than this gains nothing.
SHORTEST_WAIT = timedelta(milliseconds=50)
ANSWER_WAIT = timedelta(milliseconds=100)
FOREIGN_WAIT = timedelta(seconds=1)

_WINDOW = LONGEST_WINDOW.total_seconds()
_LOOKAHEAD = LOOKAHEAD.total_seconds()
# Others' calls are extrapolated from the window's beginning with care: as if it had begun this much earlier.
_CARE = 3.0
# Others' calls that no answer has told for so long are thought not to have been made; until then they are expected.
_FRESH = 3.0
# What the other processes of a shared budget have taken is asked for again after so long, where it leaves no room.
_SIBLINGS_ARE_KNOWN = 1.0
# Names of windows that are further apart than this are not of one clock.
_WRONG_NAME = 10 * _WINDOW
# How much of a window's end says how others go on when we look no longer.
_TAIL = 20.0
# By how much a window may outlive its named end before our clock and theirs count as different.
_SAME_CLOCK = 2.0
# A border that came later than expected is looked for this much later, and twice as much each further time.
_NUDGE = 1.0
# A window that goes on for so long after it seemed over shows that it is our clock that is wrong.
_SAME_WINDOW = 5.0


class Wish(NamedTuple):
    """
    What one process asks of the budget that it shares with others.

    Args:
        window_ends: the window that is meant, by its name in seconds since 1970; None before any was told.
        most: calls that all together may have made by now; None before a limit is known.
        block: how many more are wanted.
        returned: of those taken earlier, how many are given back.
        backfills: own calls of backfills since the last wish.
        carried: own calls that were taken of another window and may count in this one, since the last wish.
    """

    window_ends: int | None
    most: int | None
    block: int
    returned: int
    backfills: int
    carried: int = 0


class Grant(NamedTuple):
    """
    What it gets.

    Args:
        tokens: how many calls it may make.
        taken, backfills: of all processes in the window that was meant, with these.
        newest: the window that has begun last, as far as any of them knows.
    """

    tokens: int
    taken: int
    backfills: int
    newest: int


class Taken(NamedTuple):
    """
    What all processes together have taken, in a window and in the one before.
    """

    window_ends: int = 0
    taken: int = 0
    backfills: int = 0
    taken_before: int = 0
    backfills_before: int = 0


def grant(taken: Taken, wish: Wish) -> tuple[Taken, Grant]:
    """
    What a process gets of a shared budget, and what is taken of it then.

    Who is still in the window before counts there; a window further back is over, and what is asked of it goes into
    the newest, where it is paid for by all. One that is far back shows that the newest was named wrongly.
    """
    if wish.window_ends is not None and wish.window_ends <= taken.window_ends - _WRONG_NAME:
        taken = Taken(wish.window_ends, taken.taken, taken.backfills)
    if wish.window_ends is not None and wish.window_ends > taken.window_ends:
        is_next = wish.window_ends - taken.window_ends <= LONGEST_WINDOW.total_seconds()
        before = (taken.taken, taken.backfills) if is_next else (0, 0)
        taken = Taken(wish.window_ends, 0, 0, *before)
    is_before = wish.window_ends == taken.window_ends - round(_WINDOW)
    all_taken, backfills = (taken.taken_before, taken.backfills_before) if is_before else (taken.taken, taken.backfills)
    kept = max(0, all_taken - wish.returned + wish.carried)
    tokens = wish.block if wish.most is None else max(0, min(wish.block, wish.most - kept))
    now = Grant(tokens, kept + tokens, backfills + wish.backfills, taken.window_ends)
    if is_before:
        return taken._replace(taken_before=now.taken, backfills_before=now.backfills), now
    return taken._replace(taken=now.taken, backfills=now.backfills), now


class Budget:
    """
    What one process may call of one account.

    Every `take` that gave true is followed by one `ended`, and by one `learn` before it where the answer told a limit.
    Times are aware; a clock that is set forth or back costs at most a minute.

    Args:
        share: of each limit that is ours, above 0, up to 1; never less than one call a minute.
        is_shared: with other processes: each call takes a token, which is asked for by a `wish` and comes with a
            `granted`.
    """

    def __init__(self, share: float, *, is_shared: bool = False) -> None:
        self._share = share
        self._is_shared = is_shared
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def room(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> int:
        """
        How many calls may leave now; before anything is known of the limit, one at a time.
        """
        return self._bucket(method, endpoint, now).room(now.timestamp(), backfill=backfill)

    def take(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> bool:
        """
        True if one call may leave, which then is counted. A live call that may not goes before all backfills.
        """
        return self._bucket(method, endpoint, now).take(now.timestamp(), backfill=backfill)

    def ended(self, method: str, endpoint: str, now: datetime, *, was_sent: bool = True) -> None:
        """
        A call that was taken is over, with or without an answer. One that surely never left is given back.
        """
        self._bucket(method, endpoint, now).ended(was_sent=was_sent)

    def learn(
        self, method: str, endpoint: str, *, limit: int, remaining: int, resets_at: datetime, now: datetime
    ) -> None:
        """
        What the answer to a call told: the limit of its window, what is left of it and when the window ends by the
        other end's clock. Answers may come in any order.
        """
        bucket = self._bucket(method, endpoint, now)
        bucket.learn(limit, limit - remaining, _name(resets_at), now.timestamp())

    def exhausted(self, method: str, endpoint: str, now: datetime, resets_at: datetime | None) -> None:
        """
        The other end refused a call since its limit is used up: no room until the window ends, a minute at the most.
        """
        self._bucket(method, endpoint, now).exhausted(
            None if resets_at is None else resets_at.timestamp(), now.timestamp()
        )

    def wish(self, method: str, endpoint: str, now: datetime, count: int = 1, *, backfill: bool = False) -> Wish | None:
        """
        What to ask of the shared budget for so many calls, or for so many of backfills and one that is none; None while
        there is enough, nothing to be had, or nobody to share with.
        """
        bucket = self._bucket(method, endpoint, now)
        return bucket.wish(now.timestamp(), count, backfill=backfill) if self._is_shared else None

    def granted(self, method: str, endpoint: str, now: datetime, wish: Wish, given: Grant) -> None:
        """
        What became of a wish.
        """
        self._bucket(method, endpoint, now).granted(wish, given, now.timestamp())

    def opens_at(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> datetime:
        """
        When room is worth asking for again: now if there is some, else up to a minute later.
        """
        bucket, at = self._bucket(method, endpoint, now), now.timestamp()
        if bucket.has_room(at, backfill=backfill):
            return max(now, datetime.fromtimestamp(bucket.asks_at, UTC)) if bucket.asks_at > at else now
        wait = timedelta(seconds=bucket.opens_at(at, backfill=backfill) - at)
        return now + min(max(wait, SHORTEST_WAIT), LONGEST_WINDOW)

    def awaits_answer(self, method: str, endpoint: str, now: datetime) -> bool:
        """
        True if an answer that is under way decides how many more calls may leave.
        """
        return self._bucket(method, endpoint, now).awaits_answer(now.timestamp())

    def left(self, now: datetime) -> Iterator[tuple[str, str, int]]:
        """
        Method, endpoint and room of all that was ever called.
        """
        for method, endpoint in self._buckets:
            yield method, endpoint, self._bucket(method, endpoint, now).left(now.timestamp())

    def _bucket(self, method: str, endpoint: str, now: datetime) -> "_Bucket":
        bucket = self._buckets.get((method, endpoint))
        if bucket is None:
            bucket = self._buckets[method, endpoint] = _Bucket(
                self._share, _Window(started=now.timestamp()), is_shared=self._is_shared
            )
        bucket.move_to(now.timestamp())
        return bucket


def _name(resets_at: datetime) -> float:
    """
    The name of a window: its end to the nearest minute, so that an end told less exactly is no new window.
    """
    return round(resets_at.astimezone(UTC).timestamp() / _WINDOW) * _WINDOW


class _Use:
    """
    How many calls others had made by each moment of one window, as far as we saw.
    """

    def __init__(self) -> None:
        self._points = [(0.0, 0)]

    @property
    def seen(self) -> int:
        """
        The most we know of.
        """
        return self._points[-1][1]

    @property
    def seen_at(self) -> float:
        """
        Until which second of the window.
        """
        return self._points[-1][0]

    def add(self, second: float, calls: int) -> None:
        """
        At least so many calls by this second; one point a second is kept.
        """
        latest, most = self._points[-1]
        point = (max(second, latest), max(calls, most))
        if int(point[0]) == int(latest):
            self._points[-1] = point
        else:
            self._points.append(point)

    def by(self, second: float) -> float:
        """
        Calls by this second: even between two moments that we saw, and after the last one as just before it.
        """
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
    """
    One window of the other end.

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
        """
        By our clock, at the latest.
        """
        return self.started + _WINDOW


class _Bucket:
    """
    The calls of one method and endpoint. Times are seconds since 1970.
    """

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
        """
        The window of this moment: the next one where the last is over, the same again where the clock was set back.
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
        """
        See `Budget.room`.
        """
        room = self._room(now, backfill=backfill)
        return min(room, self._window.tokens) if self._is_shared else room

    def has_room(self, now: float, *, backfill: bool) -> bool:
        """
        Whether calls may leave, as soon as there are tokens for them.
        """
        return self._room(now, backfill=backfill) > 0

    def left(self, now: float) -> int:
        """
        See `Budget.left`.
        """
        return self._room(now, backfill=False)

    @property
    def asks_at(self) -> float:
        """
        When tokens are worth asking for again, where none were to be had.
        """
        window = self._window
        return window.tokens_at + ANSWER_WAIT.total_seconds() if self._is_shared and window.tokens <= 0 else 0.0

    def wish(self, now: float, count: int, *, backfill: bool) -> Wish | None:
        """
        See `Budget.wish`.
        """
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
        return Wish(
            self._name_of_window,
            most,
            max(0, wanted - in_hand),
            returned,
            window.backfills - window.reported,
            window.carried,
        )

    def granted(self, wish: Wish, given: Grant, now: float) -> None:
        """
        See `Budget.granted`.
        """
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
        """
        Room, if what other processes had taken some time ago was given back.
        """
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
        """
        As it was told, or as is to be expected by the border between windows; None before any was told.
        """
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
        """
        See `Budget.take`.
        """
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
        """
        See `Budget.ended`.
        """
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
        """
        See `Budget.learn`.
        """
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
        """
        Whoever called in this minute before our first answer may have been this service, before a restart.

        Where nothing is left to us, the window's end by the other clock is believed: if it proves wrong, a handful
        has left early, and if it is right, nobody waits for longer than until then.
        """
        window = self._window
        window.answers = max(0, calls)
        if calls >= ours and window.name is not None and now < window.name:
            self._latest = min(self._latest, _NUDGE)
            window.started = window.name + self._latest - _WINDOW

    def exhausted(self, resets: float | None, now: float) -> None:
        """
        See `Budget.exhausted`.
        """
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
        """
        When there may be room again, where there is none now.
        """
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
        """
        See `Budget.awaits_answer`.
        """
        is_unknown = self._limit is None or self._window.name is None
        return is_unknown and self._under_way > 0 and now >= self._shut_until

    @property
    def _unanswered(self) -> int:
        return self._under_way - self._heard

    @property
    def _unsure(self) -> int:
        """
        Calls of which nobody has told the window: they may count in this one.
        """
        return self._unanswered + self._silent + self._silent_before

    @property
    def _own(self) -> int:
        """
        Our calls that may count in this window, with those of processes that share the budget. One under way at its
        beginning counts here and in the one before.
        """
        return self._ours_left + self._window.siblings

    @property
    def _ours_left(self) -> int:
        """
        Those of this process.
        """
        window = self._window
        seen = window.answers + window.silent + self._unsure
        return max(seen, window.granted - window.tokens)

    def _allowed(self, now: float, limit: int) -> int:
        """
        Own calls by now: the usable ones spread evenly, some seconds ahead.
        """
        usable = self._usable(now, limit)
        ahead = ceil(usable * (now - self._window.started + _LOOKAHEAD) / _WINDOW)
        return min(usable, ahead)

    def _usable(self, now: float, limit: int) -> int:
        """
        Own calls in the whole window: our share, or what others are expected to leave of the limit, at least one.

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
        """
        Moves on to the window that an answer told; false for the answer that comes late, from a window before.
        """
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
        """
        The next window, whose name is not known yet.
        """
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
        """
        The window that seemed over goes on: a call that left since was counted in it.
        """
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
        """
        The window has begun when its first answer is here, and other windows begin at the same second of theirs.
        """
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
