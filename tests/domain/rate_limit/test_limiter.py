"""How many calls may leave: our share, what others leave of it, and clocks and answers that can't be trusted."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.rate_limit.bucket import BACKFILL_SHARE, LIVE_GOES_FIRST, MOST_UNCONFIRMED
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import Taken, grant
from tests.factories import HOUR, MINUTE, NOON, SECOND

LIMIT = 600
OURS = 480
USER = ("POST", "user")


@dataclass
class End:
    """The other end: counts the calls of everybody in calendar minutes by its own clock."""

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


def learn(budget: RateLimiter, confirmed: tuple[int, int, datetime], now: datetime) -> None:
    limit, remaining, resets_at = confirmed
    budget.learn(*USER, limit=limit, remaining=remaining, resets_at=resets_at, now=now)


def call(budget: RateLimiter, end: End, now: datetime, *, backfill: bool = False) -> bool:
    """One call that is answered at once; false if there is no room for it."""
    return call_between(budget, end, ours=now, theirs=now, backfill=backfill)


def call_between(budget: RateLimiter, end: End, *, ours: datetime, theirs: datetime, backfill: bool = False) -> bool:
    """The same where the two clocks differ."""
    if not budget.take(*USER, ours, backfill=backfill):
        return False
    learn(budget, end.count(theirs), ours)
    budget.ended(*USER, ours)
    return True


def calls(budget: RateLimiter, end: End, now: datetime, *, backfill: bool = False) -> int:
    """As many as there is room for."""
    done = 0
    while call(budget, end, now, backfill=backfill):
        done += 1
    return done


def answered(*, remaining: int = LIMIT - 1, limit: int = LIMIT, now: datetime = NOON) -> RateLimiter:
    """A budget that has seen one answer."""
    budget = RateLimiter(0.8)
    assert budget.take(*USER, now)
    learn(budget, (limit, remaining, NOON + MINUTE), now)
    budget.ended(*USER, now)
    return budget


def test_one_call_at_a_time_until_the_limit_is_known() -> None:
    budget = RateLimiter(0.8)

    assert budget.room(*USER, NOON) == 1
    assert budget.take(*USER, NOON)
    assert (budget.room(*USER, NOON), budget.take(*USER, NOON)) == (0, False)
    assert budget.awaits_answer(*USER, NOON)
    budget.ended(*USER, NOON)
    assert budget.room(*USER, NOON) == 1


def test_each_method_and_endpoint_has_a_budget_of_its_own() -> None:
    budget = answered(remaining=0)

    assert budget.room(*USER, NOON) == 0
    assert budget.room("GET", "user", NOON) == 1
    assert list(budget.left(NOON)) == [("POST", "user", 0), ("GET", "user", 1)]


def test_a_burst_goes_at_once_and_the_rest_follows_evenly() -> None:
    """A sixth of our share is there at the beginning; all of it has left ten seconds before the end."""
    budget, end = RateLimiter(0.8), End()
    by_second = {second: calls(budget, end, NOON + second * SECOND) for second in range(60)}

    assert by_second[0] == OURS // 6
    assert all(by_second[second] == OURS // 60 for second in range(1, 51))
    assert sum(by_second.values()) == OURS
    assert budget.opens_at(*USER, NOON + 59 * SECOND) == NOON + MINUTE


def test_a_burst_after_a_quiet_time_waits_for_nothing_but_one_answer() -> None:
    """Nothing is known yet of this minute but the limit: a handful leaves, and the answers let the others go."""
    budget, end = RateLimiter(0.8), End()
    call(budget, end, NOON)
    later = NOON + 10 * MINUTE + 30 * SECOND
    handful = 0
    while budget.take(*USER, later):
        handful += 1

    assert handful == MOST_UNCONFIRMED
    learn(budget, end.count(later), later)
    assert budget.room(*USER, later) == OURS * 40 // 60 - handful


@pytest.mark.parametrize(
    ("share", "limit", "most"), [(0.8, 600, 480), (0.29, 100, 29), (0.8, 1, 1), (0.01, 40, 1), (1.0, 50, 50)]
)
def test_never_more_than_our_share_but_always_one(share: float, limit: int, most: int) -> None:
    budget, end = RateLimiter(share), End(limit)
    sent = sum(calls(budget, end, NOON + second * SECOND) for second in range(60))

    assert sent == most


def test_an_older_answer_does_not_raise_the_room() -> None:
    """Answers overtake each other; the most that was ever used in a minute counts."""
    budget = RateLimiter(0.8)
    budget.take(*USER, NOON)
    learn(budget, (LIMIT, 40, NOON + MINUTE), NOON)
    before = budget.room(*USER, NOON)
    learn(budget, (LIMIT, 500, NOON + MINUTE), NOON)
    learn(budget, (2 * LIMIT, 2 * LIMIT - 1, NOON + MINUTE), NOON)

    assert budget.room(*USER, NOON) <= before


def test_an_answer_of_the_minute_before_changes_nothing() -> None:
    """A call under way across the border counts for both minutes, and its late answer is none of the new one's."""
    budget, end = answered(now=NOON + 59 * SECOND), End()
    assert budget.take(*USER, NOON + 59.9 * SECOND)
    now = NOON + MINUTE + SECOND
    end.used[end.minute(now)] = 299
    assert budget.take(*USER, now)
    learn(budget, end.count(now), now)
    budget.ended(*USER, now)
    with_both = budget.room(*USER, now)
    learn(budget, (LIMIT, LIMIT - 2, NOON + MINUTE), now)
    budget.ended(*USER, now)

    assert with_both <= budget.room(*USER, now) <= with_both + 1


@pytest.mark.parametrize("changed", [60, 6000])
def test_a_limit_that_changes_is_followed_at_once(changed: int) -> None:
    budget = answered()
    budget.take(*USER, NOON)
    learn(budget, (changed, changed - 2, NOON + MINUTE), NOON)
    budget.ended(*USER, NOON)

    assert budget.room(*USER, NOON) == math.ceil(0.8 * changed / 6) - 2


def test_a_falling_remaining_is_followed() -> None:
    """Others took nearly all: less than what is left goes out."""
    budget = answered(remaining=5)

    assert budget.room(*USER, NOON) <= 5
    assert budget.room(*USER, NOON + 59 * SECOND) <= 5


def test_backfills_leave_a_fifth_of_each_moment_to_live_calls() -> None:
    budget, end = RateLimiter(0.8), End()
    sent = {"backfill": 0, "live": 0}
    for second in range(60):
        sent["backfill"] += calls(budget, end, NOON + second * SECOND, backfill=True)
        assert budget.room(*USER, NOON + second * SECOND) >= (1 if sent["live"] < OURS // 5 else 0)
        if second % 10 == 0:
            sent["live"] += calls(budget, end, NOON + second * SECOND)

    assert sent == {"backfill": int(BACKFILL_SHARE * OURS), "live": OURS - int(BACKFILL_SHARE * OURS)}


def test_a_live_call_that_had_to_wait_goes_before_backfills() -> None:
    """Until it was back, or had the time to."""
    budget, end = RateLimiter(0.8), End()
    calls(budget, end, NOON)
    now = NOON + 2 * SECOND

    assert budget.room(*USER, now) > 0
    assert budget.room(*USER, now, backfill=True) == 0
    assert not budget.take(*USER, now, backfill=True)
    assert NOON < budget.opens_at(*USER, now, backfill=True) <= now + LIVE_GOES_FIRST
    assert call(budget, end, now)
    assert budget.room(*USER, now, backfill=True) > 0


def test_live_calls_may_take_all() -> None:
    budget, end = RateLimiter(0.8), End()
    live = backfill = 0
    for second in range(60):
        live += calls(budget, end, NOON + second * SECOND)
        backfill += calls(budget, end, NOON + second * SECOND, backfill=True)

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
def test_a_refusal_closes_until_the_window_ends(
    resets_at: datetime | None, opens_at: datetime, *, is_known: bool
) -> None:
    """A minute at the most, whatever the other end's clock says."""
    budget = answered() if is_known else RateLimiter(0.8)
    budget.take(*USER, NOON)
    budget.exhausted(*USER, NOON, resets_at)
    budget.ended(*USER, NOON)

    assert budget.opens_at(*USER, NOON) == opens_at
    assert budget.room(*USER, opens_at - 0.1 * SECOND) == 0
    assert budget.room(*USER, opens_at) >= 1


@pytest.mark.parametrize("step", [-HOUR, HOUR, -30 * SECOND, 30 * SECOND])
@pytest.mark.parametrize("is_refused", [True, False])
def test_a_clock_that_is_set_costs_a_minute_at_most(step: timedelta, *, is_refused: bool) -> None:
    """The other end's clock goes on as before. Neither is anybody kept waiting for an hour, nor do calls leave twice:
    at most a handful too many leaves, in the one minute that seems over too early.
    """
    budget, end = RateLimiter(0.8), End()
    for second in range(60):
        calls(budget, end, NOON + second * SECOND)
    if is_refused:
        budget.exhausted(*USER, NOON + 59 * SECOND, NOON + MINUTE)
    sent = []
    for second in range(60, 240):
        theirs, done = NOON + second * SECOND, 0
        while call_between(budget, end, ours=theirs + step, theirs=theirs):
            done += 1
        sent.append(done)

    assert max(end.ours.values()) <= OURS + MOST_UNCONFIRMED
    assert sum(sent[:61]) > 0
    assert sum(sent[60:]) >= OURS


def test_a_window_that_outlives_its_time_is_taken_up_again() -> None:
    """Our clock jumps forth by some seconds: the handful that left too early counts in the window it met."""
    budget, end = RateLimiter(0.8), End()
    for second in range(60):
        calls(budget, end, NOON + second * SECOND)
    ahead = 8 * SECOND
    early = sum(
        bool(call_between(budget, end, ours=NOON + second * SECOND + ahead, theirs=NOON + second * SECOND))
        for second in range(53, 60)
    )

    assert early <= MOST_UNCONFIRMED
    assert max(end.ours.values()) <= OURS + MOST_UNCONFIRMED


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("share", [0.05, 0.8])
def test_calls_that_nobody_answers_count_for_two_minutes_at_most(share: float, *, is_shared: bool) -> None:
    """In an outage of hours there are calls again and again, although no answer tells in which minutes the others
    count.
    """
    budget, taken = RateLimiter(share, is_shared=is_shared), Taken()
    left: Counter[int] = Counter()
    for second in range(4 * 3600):
        now = NOON + second * SECOND
        wish = budget.wish(*USER, now)
        if wish is not None:
            taken, gets = grant(taken, wish)
            budget.granted(*USER, now, wish, gets)
        if budget.take(*USER, now):
            left[second // 60] += 1
            if second == 0:
                learn(budget, (20, 19, NOON + MINUTE), now)
            budget.ended(*USER, now)

    assert all(left[minute] or left[minute + 1] for minute in range(239))
    assert max(left.values()) <= max(1, share * 20)


def test_a_clock_that_is_set_back_while_tokens_are_asked_for_puts_nothing_off() -> None:
    """The last tokens seem to have come in the future: who finds none now comes again within a minute all the same."""
    budget, taken = RateLimiter(0.5, is_shared=True), Taken()

    def ask(*, before: datetime, after: datetime) -> None:
        nonlocal taken
        wish = budget.wish(*USER, before)
        if wish is not None:
            taken, gets = grant(taken, wish)
            budget.granted(*USER, after, wish, gets)

    ask(before=NOON, after=NOON)
    assert budget.take(*USER, NOON)
    learn(budget, (300, 299, NOON + MINUTE), NOON)
    budget.ended(*USER, NOON)
    # No answer has named the next minute yet, and all tokens of it are under way.
    later = NOON + MINUTE + 10 * SECOND
    ask(before=later, after=later)
    while budget.take(*USER, later):
        pass
    back = later - 2 * HOUR
    ask(before=later, after=back)

    assert not budget.take(*USER, back)
    assert back <= budget.opens_at(*USER, back) <= back + MINUTE


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
    """One step after the other of a bucket, with answers that come in any order. All but the first may tell no
    limit.
    """

    budget: RateLimiter
    end: End
    now: datetime
    skew: timedelta
    is_known: bool = False
    under_way: list[tuple[int, int, datetime]] = field(default_factory=list)

    def take(self, number: int, *, backfill: bool) -> None:
        room = self.budget.room(*USER, self.now, backfill=backfill)
        assert room >= 0
        for taken in range(number):
            is_free = self.budget.take(*USER, self.now, backfill=backfill)
            assert is_free == (taken < room)
            if is_free:
                self.under_way.append(self.end.count(self.now + self.skew))

    def answer(self, number: int, *, tells_all: bool) -> None:
        for _ in range(min(number, len(self.under_way))):
            confirmed = self.under_way.pop(number % len(self.under_way))
            if tells_all or number % 5 or not self.is_known:
                self.is_known = True
                learn(self.budget, confirmed, self.now)
                is_now = confirmed[2] == self.end.reset(self.now + self.skew)
                assert not is_now or self.budget.room(*USER, self.now) <= confirmed[1]
            self.budget.ended(*USER, self.now)

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
                self.answer(number, tells_all=flag)
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
def test_whatever_happens_the_limit_is_kept_and_there_is_room_again(
    steps: list[tuple[str, int, bool]], limit: int, share: float, ahead: int, starts: int
) -> None:
    """Calls, answers in any order or none, others' calls and two clocks that differ: in no minute of the other end do
    more calls leave than our share, and none beyond what it told to be left; within 61 seconds there is room again.
    """
    play = Play(RateLimiter(share), End(limit), NOON + starts * SECOND, ahead * SECOND)
    for step, number, flag in steps:
        play.do(step, number, flag=flag)
    play.answer(len(play.under_way), tells_all=True)

    assert max(play.end.ours.values(), default=0) <= max(1, math.floor(share * limit + 1e-9))
    assert any(play.budget.room(*USER, play.now + second * SECOND) > 0 for second in range(62))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4000, 4000), st.integers(0, 5), st.booleans()), max_size=30),
    st.integers(2, 50),
)
def test_however_the_clock_is_set_there_is_room_within_a_minute(moves: list[tuple[int, int, bool]], limit: int) -> None:
    budget, end = RateLimiter(0.8), End(limit)
    now = NOON
    for seconds, number, is_refused in moves:
        now += seconds * SECOND
        for _ in range(number):
            call(budget, end, now)
        if is_refused:
            budget.exhausted(*USER, now, now + 30 * SECOND)

    opens_at = budget.opens_at(*USER, now)
    assert now <= opens_at <= now + MINUTE
    assert any(budget.room(*USER, now + second * SECOND) > 0 for second in range(62))


def test_what_was_used_before_the_first_answer_counts_as_ours() -> None:
    """It may have been this service, before a restart within the minute. One call is needed to learn of it."""
    end = End()
    before, after = RateLimiter(0.8), RateLimiter(0.8)
    first_life = sum(calls(before, end, NOON + second * SECOND) for second in range(52))
    second_life = sum(calls(after, end, NOON + second * SECOND) for second in range(52, 60))
    next_minute = sum(calls(after, end, NOON + second * SECOND) for second in range(61, 121))

    assert (first_life, second_life, next_minute) == (OURS, 1, OURS)


def test_a_clock_set_forth_does_not_make_new_windows_of_an_old_one() -> None:
    """At first a handful leaves, as in a new minute; their answers tell that it is the old one, and what is left of
    it is used with care.
    """
    budget, end = RateLimiter(0.8), End()
    before = sum(calls(budget, end, NOON + second * SECOND) for second in range(5))
    after = 0
    for second in range(5, 60):
        theirs = NOON + second * SECOND
        while budget.take(*USER, theirs + HOUR):
            after += 1
            learn(budget, end.count(theirs), theirs + HOUR)
            budget.ended(*USER, theirs + HOUR)

    assert before + after <= OURS
