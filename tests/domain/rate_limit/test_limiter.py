"""Rate limiter: our share, the calls of other tools, wrong clocks, and unreliable answers."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.rate_limit.bucket import BACKFILL_SHARE, LIVE_GOES_FIRST, MOST_UNCONFIRMED
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import Taken, allocate
from tests.factories import HOUR, MINUTE, NOON, SECOND

LIMIT = 600
OURS = 480
USER = ("POST", "user")


@dataclass
class End:
    """A simulated Sailthru that counts all calls of the account per minute of its own clock."""

    limit: int = LIMIT
    used: Counter[int] = field(default_factory=Counter)
    ours: Counter[int] = field(default_factory=Counter)

    def minute(self, now: datetime) -> int:
        return int(now.timestamp()) // 60

    def reset(self, now: datetime) -> datetime:
        return datetime.fromtimestamp((self.minute(now) + 1) * 60, NOON.tzinfo)

    def count(self, now: datetime, *, is_ours: bool = True) -> tuple[int, int, datetime]:
        minute = self.minute(now)
        if self.used[minute] < self.limit:
            self.used[minute] += 1
            self.ours[minute] += is_ours
        return self.limit, self.limit - self.used[minute], self.reset(now)


def learn(limiter: RateLimiter, reported: tuple[int, int, datetime], now: datetime) -> None:
    limit, remaining, resets_at = reported
    limiter.learn(*USER, limit=limit, remaining=remaining, resets_at=resets_at, now=now)


def call(limiter: RateLimiter, end: End, now: datetime, *, backfill: bool = False) -> bool:
    """Make one call that is answered at once. Return False if there is no room for it."""
    return call_between(limiter, end, ours=now, theirs=now, backfill=backfill)


def call_between(limiter: RateLimiter, end: End, *, ours: datetime, theirs: datetime, backfill: bool = False) -> bool:
    """Make one call like `call`, with two clocks."""
    if not limiter.acquire(*USER, ours, backfill=backfill):
        return False
    learn(limiter, end.count(theirs), ours)
    limiter.release(*USER, ours)
    return True


def calls(limiter: RateLimiter, end: End, now: datetime, *, backfill: bool = False) -> int:
    """Make calls while there is room; return their number."""
    done = 0
    while call(limiter, end, now, backfill=backfill):
        done += 1
    return done


def answered(*, remaining: int = LIMIT - 1, limit: int = LIMIT, now: datetime = NOON) -> RateLimiter:
    """Return a limiter that has seen one answer."""
    limiter = RateLimiter(0.8)
    assert limiter.acquire(*USER, now)
    learn(limiter, (limit, remaining, NOON + MINUTE), now)
    limiter.release(*USER, now)
    return limiter


def test_one_call_at_a_time_until_the_limit_is_known() -> None:
    limiter = RateLimiter(0.8)

    assert limiter.room(*USER, NOON) == 1
    assert limiter.acquire(*USER, NOON)
    assert (limiter.room(*USER, NOON), limiter.acquire(*USER, NOON)) == (0, False)
    assert limiter.awaits_answer(*USER, NOON)
    limiter.release(*USER, NOON)
    assert limiter.room(*USER, NOON) == 1


def test_each_method_and_endpoint_has_its_own_limit() -> None:
    limiter = answered(remaining=0)

    assert limiter.room(*USER, NOON) == 0
    assert limiter.room("GET", "user", NOON) == 1
    assert list(limiter.room_left(NOON)) == [("POST", "user", 0), ("GET", "user", 1)]


def test_burst_leaves_at_once_and_rest_follows_evenly() -> None:
    """A sixth of our share may leave at the start. All of it has left ten seconds before the end."""
    limiter, end = RateLimiter(0.8), End()
    by_second = {second: calls(limiter, end, NOON + second * SECOND) for second in range(60)}

    assert by_second[0] == OURS // 6
    assert all(by_second[second] == OURS // 60 for second in range(1, 51))
    assert sum(by_second.values()) == OURS
    assert limiter.opens_at(*USER, NOON + 59 * SECOND) == NOON + MINUTE


def test_burst_after_idle_time_waits_for_one_answer() -> None:
    """No answer has reported this minute yet: eight calls leave, and the first answer releases the others."""
    limiter, end = RateLimiter(0.8), End()
    call(limiter, end, NOON)
    later = NOON + 10 * MINUTE + 30 * SECOND
    handful = 0
    while limiter.acquire(*USER, later):
        handful += 1

    assert handful == MOST_UNCONFIRMED
    learn(limiter, end.count(later), later)
    assert limiter.room(*USER, later) == OURS * 40 // 60 - handful


@pytest.mark.parametrize(
    ("share", "limit", "most"), [(0.8, 600, 480), (0.29, 100, 29), (0.8, 1, 1), (0.01, 40, 1), (1.0, 50, 50)]
)
def test_our_share_is_kept_but_one_call_always_leaves(share: float, limit: int, most: int) -> None:
    limiter, end = RateLimiter(share), End(limit)
    sent = sum(calls(limiter, end, NOON + second * SECOND) for second in range(60))

    assert sent == most


def test_older_answer_does_not_raise_room() -> None:
    """Answers overtake each other. The highest usage reported for a minute counts."""
    limiter = RateLimiter(0.8)
    limiter.acquire(*USER, NOON)
    learn(limiter, (LIMIT, 40, NOON + MINUTE), NOON)
    before = limiter.room(*USER, NOON)
    learn(limiter, (LIMIT, 500, NOON + MINUTE), NOON)
    learn(limiter, (2 * LIMIT, 2 * LIMIT - 1, NOON + MINUTE), NOON)

    assert limiter.room(*USER, NOON) <= before


def test_late_answer_of_previous_minute_changes_nothing() -> None:
    """A call in flight when the minute ends counts in both minutes."""
    limiter, end = answered(now=NOON + 59 * SECOND), End()
    assert limiter.acquire(*USER, NOON + 59.9 * SECOND)
    now = NOON + MINUTE + SECOND
    end.used[end.minute(now)] = 299
    assert limiter.acquire(*USER, now)
    learn(limiter, end.count(now), now)
    limiter.release(*USER, now)
    with_both = limiter.room(*USER, now)
    learn(limiter, (LIMIT, LIMIT - 2, NOON + MINUTE), now)
    limiter.release(*USER, now)

    assert with_both <= limiter.room(*USER, now) <= with_both + 1


@pytest.mark.parametrize("changed", [60, 6000])
def test_changed_limit_applies_at_once(changed: int) -> None:
    limiter = answered()
    limiter.acquire(*USER, NOON)
    learn(limiter, (changed, changed - 2, NOON + MINUTE), NOON)
    limiter.release(*USER, NOON)

    assert limiter.room(*USER, NOON) == math.ceil(0.8 * changed / 6) - 2


def test_no_more_calls_leave_than_remain() -> None:
    """Other tools have taken nearly all calls."""
    limiter = answered(remaining=5)

    assert limiter.room(*USER, NOON) <= 5
    assert limiter.room(*USER, NOON + 59 * SECOND) <= 5


def test_backfills_always_leave_a_fifth_to_live_calls() -> None:
    limiter, end = RateLimiter(0.8), End()
    sent = {"backfill": 0, "live": 0}
    for second in range(60):
        sent["backfill"] += calls(limiter, end, NOON + second * SECOND, backfill=True)
        assert limiter.room(*USER, NOON + second * SECOND) >= (1 if sent["live"] < OURS // 5 else 0)
        if second % 10 == 0:
            sent["live"] += calls(limiter, end, NOON + second * SECOND)

    assert sent == {"backfill": int(BACKFILL_SHARE * OURS), "live": OURS - int(BACKFILL_SHARE * OURS)}


def test_refused_live_call_goes_before_backfills() -> None:
    """Backfills wait until the live call is repeated, for at most five seconds."""
    limiter, end = RateLimiter(0.8), End()
    calls(limiter, end, NOON)
    now = NOON + 2 * SECOND

    assert limiter.room(*USER, now) > 0
    assert limiter.room(*USER, now, backfill=True) == 0
    assert not limiter.acquire(*USER, now, backfill=True)
    assert NOON < limiter.opens_at(*USER, now, backfill=True) <= now + LIVE_GOES_FIRST
    assert call(limiter, end, now)
    assert limiter.room(*USER, now, backfill=True) > 0


def test_live_calls_may_use_our_whole_share() -> None:
    limiter, end = RateLimiter(0.8), End()
    live = backfill = 0
    for second in range(60):
        live += calls(limiter, end, NOON + second * SECOND)
        backfill += calls(limiter, end, NOON + second * SECOND, backfill=True)

    assert (live, backfill) == (OURS, 0)


@pytest.mark.parametrize(
    ("resets_at", "opens_at"),
    [
        (NOON + 30 * SECOND, NOON + 30 * SECOND),
        (NOON + HOUR, NOON + MINUTE),
        (NOON - HOUR, NOON + MINUTE),
        (NOON + 0.2 * SECOND, NOON + SECOND),
        (None, NOON + MINUTE),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_exhausted_limit_closes_until_window_ends(
    resets_at: datetime | None, opens_at: datetime, *, is_known: bool
) -> None:
    """This takes at most a minute, with any clock of Sailthru."""
    limiter = answered() if is_known else RateLimiter(0.8)
    limiter.acquire(*USER, NOON)
    limiter.exhaust(*USER, NOON, resets_at)
    limiter.release(*USER, NOON)

    assert limiter.opens_at(*USER, NOON) == opens_at
    assert limiter.room(*USER, opens_at - 0.1 * SECOND) == 0
    assert limiter.room(*USER, opens_at) >= 1


@pytest.mark.parametrize("step", [-HOUR, HOUR, -30 * SECOND, 30 * SECOND])
@pytest.mark.parametrize("is_refused", [True, False])
def test_clock_change_costs_a_minute_at_most(step: timedelta, *, is_refused: bool) -> None:
    """Only our clock is set. At most eight extra calls leave, in the minute that seems to end too early."""
    limiter, end = RateLimiter(0.8), End()
    for second in range(60):
        calls(limiter, end, NOON + second * SECOND)
    if is_refused:
        limiter.exhaust(*USER, NOON + 59 * SECOND, NOON + MINUTE)
    sent = []
    for second in range(60, 240):
        theirs, done = NOON + second * SECOND, 0
        while call_between(limiter, end, ours=theirs + step, theirs=theirs):
            done += 1
        sent.append(done)

    assert max(end.ours.values()) <= OURS + MOST_UNCONFIRMED
    assert sum(sent[:61]) > 0
    assert sum(sent[60:]) >= OURS


def test_window_that_lasts_longer_than_expected_is_resumed() -> None:
    """Our clock jumps forward by some seconds. The calls that left too early count in the old window."""
    limiter, end = RateLimiter(0.8), End()
    for second in range(60):
        calls(limiter, end, NOON + second * SECOND)
    ahead = 8 * SECOND
    early = sum(
        bool(call_between(limiter, end, ours=NOON + second * SECOND + ahead, theirs=NOON + second * SECOND))
        for second in range(53, 60)
    )

    assert early <= MOST_UNCONFIRMED
    assert max(end.ours.values()) <= OURS + MOST_UNCONFIRMED


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("share", [0.05, 0.8])
def test_unanswered_calls_count_for_two_minutes_at_most(share: float, *, is_shared: bool) -> None:
    """During an outage of hours calls still leave, although no answer reports a window."""
    limiter, taken = RateLimiter(share, is_shared=is_shared), Taken()
    left: Counter[int] = Counter()
    for second in range(4 * 3600):
        now = NOON + second * SECOND
        request = limiter.request_share(*USER, now)
        if request is not None:
            taken, given_share = allocate(taken, request)
            limiter.receive_share(*USER, now, request, given_share)
        if limiter.acquire(*USER, now):
            left[second // 60] += 1
            if second == 0:
                learn(limiter, (20, 19, NOON + MINUTE), now)
            limiter.release(*USER, now)

    assert all(left[minute] or left[minute + 1] for minute in range(239))
    assert max(left.values()) <= max(1, share * 20)


def test_clock_set_back_during_request_delays_nothing() -> None:
    """The last grant seems to be in the future. The limiter still opens within a minute."""
    limiter, taken = RateLimiter(0.5, is_shared=True), Taken()

    def request_share(*, before: datetime, after: datetime) -> None:
        nonlocal taken
        request = limiter.request_share(*USER, before)
        if request is not None:
            taken, given_share = allocate(taken, request)
            limiter.receive_share(*USER, after, request, given_share)

    request_share(before=NOON, after=NOON)
    assert limiter.acquire(*USER, NOON)
    learn(limiter, (300, 299, NOON + MINUTE), NOON)
    limiter.release(*USER, NOON)
    # No answer has reported the next minute yet, and all its permits are in use.
    later = NOON + MINUTE + 10 * SECOND
    request_share(before=later, after=later)
    while limiter.acquire(*USER, later):
        pass
    back = later - 2 * HOUR
    request_share(before=later, after=back)

    assert not limiter.acquire(*USER, back)
    assert back <= limiter.opens_at(*USER, back) <= back + MINUTE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 60), st.booleans()),
        st.tuples(st.just("answer"), st.integers(0, 50), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 20_000), st.booleans()),
        st.tuples(st.just("foreign"), st.integers(0, 30), st.booleans()),
    ),
    max_size=80,
)


@dataclass
class Play:
    """Runs a random history with answers in any order. Any answer but the first may report no limit."""

    limiter: RateLimiter
    end: End
    now: datetime
    skew: timedelta
    is_known: bool = False
    in_flight: list[tuple[int, int, datetime]] = field(default_factory=list)

    def take(self, number: int, *, backfill: bool) -> None:
        room = self.limiter.room(*USER, self.now, backfill=backfill)
        assert room >= 0
        for taken in range(number):
            is_free = self.limiter.acquire(*USER, self.now, backfill=backfill)
            assert is_free == (taken < room)
            if is_free:
                self.in_flight.append(self.end.count(self.now + self.skew))

    def answer(self, number: int, *, reports_all: bool) -> None:
        for _ in range(min(number, len(self.in_flight))):
            reported = self.in_flight.pop(number % len(self.in_flight))
            if reports_all or number % 5 or not self.is_known:
                self.is_known = True
                learn(self.limiter, reported, self.now)
                is_now = reported[2] == self.end.reset(self.now + self.skew)
                assert not is_now or self.limiter.room(*USER, self.now) <= reported[1]
            self.limiter.release(*USER, self.now)

    def wait(self, number: int) -> None:
        self.now += timedelta(milliseconds=number)

    def foreign(self, number: int) -> None:
        for _ in range(number):
            self.end.count(self.now + self.skew, is_ours=False)

    def do(self, step: str, number: int, *, flag: bool) -> None:
        match step:
            case "take":
                self.take(number, backfill=flag)
            case "answer":
                self.answer(number, reports_all=flag)
            case "wait":
                self.wait(number)
            case _:
                self.foreign(number)


@settings(max_examples=300, deadline=None)
@given(
    steps=STEPS,
    limit=st.integers(2, 120),
    share=st.sampled_from([0.05, 0.5, 0.8, 1.0]),
    ahead=st.integers(-3600, 3600),
    starts=st.integers(0, 59),
)
def test_any_history_keeps_limit_and_has_room_again(
    steps: list[tuple[str, int, bool]], limit: int, share: float, ahead: int, starts: int
) -> None:
    """The history has missing and reordered answers, calls of other tools, and different clocks.

    In each minute of Sailthru, our calls stay within our share and the remaining calls. Room returns within 61 s.
    """
    play = Play(RateLimiter(share), End(limit), NOON + starts * SECOND, ahead * SECOND)
    for step, number, flag in steps:
        play.do(step, number, flag=flag)
    play.answer(len(play.in_flight), reports_all=True)

    assert max(play.end.ours.values(), default=0) <= max(1, math.floor(share * limit + 1e-9))
    assert any(play.limiter.room(*USER, play.now + second * SECOND) > 0 for second in range(62))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4000, 4000), st.integers(0, 5), st.booleans()), max_size=30),
    st.integers(2, 50),
)
def test_limiter_opens_within_a_minute_however_the_clock_is_set(moves: list[tuple[int, int, bool]], limit: int) -> None:
    limiter, end = RateLimiter(0.8), End(limit)
    now = NOON
    for seconds, number, is_refused in moves:
        now += seconds * SECOND
        for _ in range(number):
            call(limiter, end, now)
        if is_refused:
            limiter.exhaust(*USER, now, now + 30 * SECOND)

    opens_at = limiter.opens_at(*USER, now)
    assert now <= opens_at <= now + MINUTE
    assert any(limiter.room(*USER, now + second * SECOND) > 0 for second in range(62))


def test_calls_before_first_answer_count_as_ours() -> None:
    """This service may have made them before a restart. It learns of them from its first call."""
    end = End()
    before, after = RateLimiter(0.8), RateLimiter(0.8)
    first_life = sum(calls(before, end, NOON + second * SECOND) for second in range(52))
    second_life = sum(calls(after, end, NOON + second * SECOND) for second in range(52, 60))
    next_minute = sum(calls(after, end, NOON + second * SECOND) for second in range(61, 121))

    assert (first_life, second_life, next_minute) == (OURS, 1, OURS)


def test_clock_set_forward_does_not_start_new_window() -> None:
    """Eight calls leave as in a new minute. Their answers report the old minute, whose rest is used cautiously."""
    limiter, end = RateLimiter(0.8), End()
    before = sum(calls(limiter, end, NOON + second * SECOND) for second in range(5))
    after = 0
    for second in range(5, 60):
        theirs = NOON + second * SECOND
        while limiter.acquire(*USER, theirs + HOUR):
            after += 1
            learn(limiter, end.count(theirs), theirs + HOUR)
            limiter.release(*USER, theirs + HOUR)

    assert before + after <= OURS
