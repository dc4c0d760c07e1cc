"""How replicas share the budget of one account: who gets how much, and that all together keep within it."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from app.domain.rate_limit.bucket import ANSWER_WAIT, BACKFILL_SHARE, BLOCKS_IN_A_WINDOW, LARGEST_BLOCK, TOKEN_LASTS
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, grant
from tests.domain.rate_limit.sharing import MANY, Sharing
from tests.factories import HOUR, MINUTE, NOON, SECOND

LIMIT, OURS = 600, 480
BLOCK = OURS // BLOCKS_IN_A_WINDOW
# A sixth of our share may leave at the beginning of a window.
AT_FIRST = OURS // 6
USER = ("POST", "user")
ENDS = int(NOON.timestamp()) + 60


def wish(
    block: int = 10,
    *,
    ends: int | None = ENDS,
    most: int | None = 100,
    returned: int = 0,
    backfills: int = 0,
    carried: int = 0,
) -> ShareRequest:
    return ShareRequest(ends, most, block, returned, backfills, carried)


USED = Taken(ENDS, 40, 7, 300, 200)


@pytest.mark.parametrize(
    ("taken", "asked", "then", "given"),
    [
        # Never more than all together may have made by now, and nothing of what is less than nothing.
        (USED, wish(), USED._replace(taken=50), ShareGrant(10, 50, 7, ENDS)),
        (USED, wish(70), USED._replace(taken=100), ShareGrant(60, 100, 7, ENDS)),
        (USED, wish(most=40), USED, ShareGrant(0, 40, 7, ENDS)),
        (USED, wish(most=5), USED, ShareGrant(0, 40, 7, ENDS)),
        # What is given back is there for others, and for whoever gives it.
        (USED, wish(0, returned=6), USED._replace(taken=34), ShareGrant(0, 34, 7, ENDS)),
        (USED, wish(80, returned=6), USED._replace(taken=100), ShareGrant(66, 100, 7, ENDS)),
        (USED, wish(0, returned=90), USED._replace(taken=0), ShareGrant(0, 0, 7, ENDS)),
        # What was taken elsewhere and may count here.
        (USED, wish(70, carried=5), USED._replace(taken=100), ShareGrant(55, 100, 7, ENDS)),
        # Backfills are told to all.
        (USED, wish(0, backfills=3), USED._replace(backfills=10), ShareGrant(0, 40, 10, ENDS)),
        # The next window begins with nothing, and the one before is kept.
        (USED, wish(ends=ENDS + 60, backfills=1), Taken(ENDS + 60, 10, 1, 40, 7), ShareGrant(10, 10, 1, ENDS + 60)),
        # After a pause none was just before.
        (USED, wish(ends=ENDS + 120), Taken(ENDS + 120, 10, 0, 0, 0), ShareGrant(10, 10, 0, ENDS + 120)),
        (Taken(), wish(), Taken(ENDS, 10), ShareGrant(10, 10, 0, ENDS)),
        # Who is still in the window before counts there.
        (
            USED,
            wish(ends=ENDS - 60, most=305, backfills=2),
            USED._replace(taken_before=305, backfills_before=202),
            ShareGrant(5, 305, 202, ENDS),
        ),
        # Further back is over: paid for in the newest.
        (USED, wish(ends=ENDS - 120), USED._replace(taken=50), ShareGrant(10, 50, 7, ENDS)),
        # Who knows no window, and no limit, gets what it asks for, in the newest.
        (USED, wish(1, ends=None, most=None), USED._replace(taken=41), ShareGrant(1, 41, 7, ENDS)),
        (Taken(), wish(1, ends=None, most=None), Taken(0, 1), ShareGrant(1, 1, 0, 0)),
        # Hours ahead is no window but somebody's mistake: it does not shut all others out.
        (USED, wish(ends=ENDS - 3600), Taken(ENDS - 3600, 50, 7), ShareGrant(10, 50, 7, ENDS - 3600)),
    ],
)
def test_what_each_gets(taken: Taken, asked: ShareRequest, then: Taken, given: ShareGrant) -> None:
    assert grant(taken, asked) == (then, given)


@dataclass
class Shared:
    """What processes have taken, and the limit as Sailthru tells it."""

    taken: Taken = field(default_factory=Taken)
    used: int = 0
    asked: int = 0

    def ask(
        self, budget: RateLimiter, now: datetime = NOON, count: int = 1, *, backfill: bool = False
    ) -> ShareRequest | None:
        """As a process does before it calls."""
        asked = budget.wish(*USER, now, count, backfill=backfill)
        if asked is not None:
            self.asked += 1
            self.taken, given = grant(self.taken, asked)
            budget.granted(*USER, now, asked, given)
        return asked

    def call(self, budget: RateLimiter, now: datetime = NOON, *, backfill: bool = False) -> bool:
        """With what there is."""
        if not budget.take(*USER, now, backfill=backfill):
            return False
        self.answer(budget, now)
        return True

    def answer(self, budget: RateLimiter, now: datetime = NOON) -> None:
        self.used += 1
        ends = datetime.fromtimestamp((int(now.timestamp()) // 60 + 1) * 60, NOON.tzinfo)
        budget.learn(*USER, limit=LIMIT, remaining=LIMIT - self.used, resets_at=ends, now=now)
        budget.ended(*USER, now)

    def process(self, now: datetime = NOON) -> RateLimiter:
        """One that has seen an answer, and told of it."""
        budget = RateLimiter(0.8, is_shared=True)
        self.ask(budget, now)
        assert self.call(budget, now)
        self.ask(budget, now, 0)
        return budget

    @property
    def all_taken(self) -> int:
        return self.taken.taken


def tokens(budget: RateLimiter, now: datetime = NOON) -> int:
    return budget.room(*USER, now)


def test_without_a_token_no_call_leaves() -> None:
    """However much room there is; also the first call of all takes one."""
    shared, budget = Shared(), RateLimiter(0.8, is_shared=True)
    first = (tokens(budget), budget.take(*USER, NOON))
    shared.ask(budget)
    second = (tokens(budget), shared.call(budget))
    third = (tokens(budget), budget.take(*USER, NOON))

    assert (first, second, third) == ((0, False), (1, True), (0, False))
    assert list(budget.left(NOON)) == [("POST", "user", AT_FIRST - 1)]


def test_a_budget_of_one_process_wants_nothing() -> None:
    assert RateLimiter(0.8).wish(*USER, NOON) is None


def test_before_the_limit_is_known_one_call_is_asked_for_at_a_time() -> None:
    budget = RateLimiter(0.8, is_shared=True)

    assert budget.wish(*USER, NOON, 64) == wish(1, ends=None, most=None)
    shared = Shared()
    shared.ask(budget)
    assert budget.take(*USER, NOON)
    assert budget.wish(*USER, NOON, 64) is None


def test_the_first_call_counts_in_the_window_that_it_tells() -> None:
    """When it was taken nobody knew of a window."""
    shared = Shared()
    shared.process()
    first = shared.taken
    shared.process()

    assert first == Taken(ENDS, 1)
    # Of the second one it is not known that it was counted there: rather twice than not at all.
    assert shared.all_taken == 3


def test_what_is_asked_for_is_what_is_needed() -> None:
    """All that there are places for, as far as there is room; no more as long as that is there."""
    shared = Shared()
    budget = shared.process()
    shared.ask(budget, count=64)
    in_hand, again = tokens(budget), shared.ask(budget, count=64)
    shared.call(budget)
    next_wish = budget.wish(*USER, NOON, 64)

    assert (in_hand, again) == (64, None)
    assert next_wish == wish(1, most=AT_FIRST)


def test_who_has_used_all_gets_a_block() -> None:
    """So that not each call asks: a fiftieth of what is ours, twenty at most. The first one of a window is alone, since
    many who have nothing to do ask for it.
    """
    shared = Shared()
    budget = shared.process()
    shared.ask(budget)
    blocks = [tokens(budget)]
    for _ in range(3):
        while shared.call(budget):
            pass
        shared.ask(budget)
        blocks.append(tokens(budget))
    shared.ask(budget, NOON + MINUTE)

    assert blocks == [BLOCK] * 4
    assert tokens(budget, NOON + MINUTE) == 1
    assert BLOCK < LARGEST_BLOCK


def test_what_is_not_used_is_given_back() -> None:
    """After two seconds all but what is needed, and others may take it."""
    shared = Shared()
    budget, other = shared.process(), shared.process()
    before = shared.all_taken
    shared.ask(budget, count=64)
    with_64 = shared.all_taken
    early = budget.wish(*USER, NOON + 0.9 * TOKEN_LASTS)
    late = shared.ask(budget, NOON + TOKEN_LASTS)
    shared.ask(other, NOON + TOKEN_LASTS, 64)

    assert early is None
    assert late == wish(0, most=AT_FIRST + 16, returned=63)
    assert with_64 == before + 64
    assert tokens(budget, NOON + TOKEN_LASTS) == 1
    assert tokens(other, NOON + TOKEN_LASTS) == 64


def test_who_only_waits_does_not_ask_again_and_again() -> None:
    shared = Shared()
    budget = shared.process()
    shared.ask(budget)
    shared.ask(budget, NOON + TOKEN_LASTS)
    before = shared.asked
    for second in range(3, 50):
        shared.ask(budget, NOON + second * SECOND)

    assert shared.asked == before


def test_what_others_have_taken_leaves_no_room() -> None:
    """Where nothing was to be had it is asked for again, but not without a pause."""
    shared = Shared()
    first, second = shared.process(), shared.process()
    left = AT_FIRST - shared.all_taken
    shared.ask(first, count=AT_FIRST)
    shared.ask(second)

    assert (tokens(first), tokens(second)) == (left, 0)
    assert second.opens_at(*USER, NOON) >= NOON + ANSWER_WAIT
    later = NOON + SECOND
    shared.ask(second, later)
    assert tokens(second, later) >= 1


def test_what_others_give_back_is_found_by_who_had_no_room() -> None:
    """At the end of a window too, when no new room comes with time."""
    shared, now = Shared(), NOON + 52 * SECOND
    first = shared.process()
    second = shared.process()
    shared.ask(first, now, OURS)
    shared.ask(second, now)
    nothing = tokens(second, now)
    shared.ask(first, now + TOKEN_LASTS)
    shared.ask(second, now + TOKEN_LASTS)

    assert nothing == 0
    assert tokens(second, now + TOKEN_LASTS) > 0


def test_tokens_of_a_window_that_is_over_are_not_used() -> None:
    """Neither those in hand, nor those that come too late."""
    shared = Shared()
    budget = shared.process()
    shared.ask(budget, NOON + 59 * SECOND, 20)
    before, late = tokens(budget, NOON + 59 * SECOND), budget.wish(*USER, NOON + 59 * SECOND, 64)
    assert late is not None
    shared.taken, given = grant(shared.taken, late)
    now = NOON + MINUTE + SECOND
    in_hand = tokens(budget, now)
    budget.granted(*USER, now, late, given)
    too_late = tokens(budget, now)
    shared.ask(budget, now, 3)

    assert (before, given.tokens > 0) == (20, True)
    assert (in_hand, too_late, tokens(budget, now)) == (0, 0, 3)
    assert shared.all_taken == 3


def test_calls_under_way_at_a_border_are_taken_of_both_windows() -> None:
    """Sailthru may count them in the next one, where others would not know of them."""
    shared = Shared()
    budget = shared.process()
    shared.ask(budget, NOON + 59 * SECOND, 20)
    for _ in range(20):
        assert budget.take(*USER, NOON + 59 * SECOND)
    asked = shared.ask(budget, NOON + MINUTE)

    assert asked is not None
    assert asked.carried == 20
    assert shared.taken == Taken(ENDS + 60, 21, 0, 21, 0)


def test_who_is_told_of_a_newer_window_goes_on_to_it() -> None:
    """Its own first answer came late in a minute, so that its windows seem to begin late as well."""
    shared = Shared()
    late = shared.process(NOON + 40 * SECOND)
    shared.taken = Taken(ENDS + 60, 5, 0, OURS, 0)
    now = NOON + 61 * SECOND
    shared.ask(late, now)
    stale = tokens(late, now)
    shared.ask(late, now)

    assert stale == 0
    assert tokens(late, now) == 1
    assert shared.all_taken == 6


def test_backfills_of_all_together_leave_a_fifth_to_live_calls() -> None:
    """Those who have only backfills to tell do not take the tokens of that fifth."""
    shared = Shared()
    first, second, lonely = (shared.process() for _ in range(3))
    for tenth in range(300):
        now = NOON + tenth * SECOND / 10
        for budget in (first, second):
            shared.ask(budget, now, 64, backfill=True)
            while shared.call(budget, now, backfill=True):
                pass
    allowed = AT_FIRST + OURS // 2
    confirmed, taken = shared.used - 3, shared.all_taken
    shared.ask(lonely, now)

    assert abs(confirmed - BACKFILL_SHARE * allowed) <= 2
    assert taken <= confirmed + 3 + 4
    assert shared.call(lonely, now)


def test_calls_of_other_processes_are_not_taken_for_those_of_others() -> None:
    """Who hears from Sailthru of many calls knows of the shared budget whose they are."""
    shared = Shared()
    busy, idle = shared.process(), shared.process()
    for second in range(30):
        now = NOON + second * SECOND
        for _ in range(8):
            shared.ask(busy, now)
            shared.call(busy, now)
    shared.ask(idle, now)
    assert shared.call(idle, now)
    asked = shared.ask(idle, now, 64)

    assert shared.used == 2 + 240 + 1
    assert asked is not None
    assert asked.most == math.ceil(OURS * (29 + 10) / 60)
    assert budget_left(idle, now) == asked.most - shared.all_taken + tokens(idle, now)


def budget_left(budget: RateLimiter, now: datetime) -> int:
    ((_, _, left),) = budget.left(now)
    return left


def test_calls_of_others_leave_less_to_all() -> None:
    """What no process has taken of the shared budget."""
    shared = Shared()
    budget = shared.process()
    shared.used += 400
    now = NOON + 50 * SECOND
    shared.ask(budget, now)
    shared.call(budget, now)
    shared.ask(budget, now, 20)
    asked = budget.wish(*USER, now, 600)

    assert asked is not None
    assert asked.most is not None
    assert asked.most <= LIMIT - 400


@pytest.mark.parametrize("limit", [40, 600, 3000])
@pytest.mark.parametrize("seed", range(4))
def test_replicas_with_a_backlog_use_all_that_is_ours_and_no_more(limit: int, seed: int) -> None:
    """Three of them, of which one dies with all that it holds and another one comes: that one knows neither limit nor
    window, and finds them out with one call.
    """
    sharing = Sharing(3, limit=limit, ahead=seed * 17.3, starts=seed * 11.0, seed=seed)
    sharing.live.extend([0.0] * MANY)
    dies_at = sharing.now + sharing.dice.uniform(60, 200)

    def each(now: float) -> None:
        if now > dies_at and not sharing.replicas[0].is_dead:
            sharing.replicas[0].is_dead = True
            sharing.replicas.append(sharing.join())

    sharing.run(400, each)
    minutes = sorted(sharing.whole_minutes(since=60))
    ours = math.floor(0.8 * limit)

    assert minutes[-1] <= ours + 1
    assert minutes[-2] <= ours
    assert sum(minutes) >= 0.97 * ours * len(minutes)


@pytest.mark.parametrize("limit", [60, 600])
@pytest.mark.parametrize("seed", range(4))
def test_bursts_at_any_moment_keep_within_what_is_ours(limit: int, seed: int) -> None:
    """Also just before a minute ends, when calls are counted in the next one."""
    sharing = Sharing(3, limit=limit, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)

    def each(now: float) -> None:
        if sharing.dice.random() < 0.005:
            sharing.due(sharing.dice.randint(1, limit // 4))
        if (now + sharing.sailthru.ahead) % 60 > 59.9 and sharing.dice.random() < 0.5:
            sharing.due(40)

    sharing.run(300, each)

    assert sharing.most() <= math.floor(0.8 * limit)


@pytest.mark.parametrize("seed", range(4))
def test_live_calls_find_room_at_once_beside_backfills(seed: int) -> None:
    sharing = Sharing(3, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)
    sharing.backfills = MANY

    def each(_: float) -> None:
        if sharing.dice.random() < 0.005:
            sharing.due()

    sharing.run(300, each)

    assert len(sharing.waited) > 10
    assert max(sharing.waited) < 1
    assert min(sharing.whole_minutes(since=60)) >= 0.97 * BACKFILL_SHARE * OURS


@pytest.mark.parametrize("seed", range(3))
def test_calls_of_others_are_made_room_for(seed: int) -> None:
    """Four a second on the average: the limit is hardly ever met, and what is left is used."""
    sharing = Sharing(3, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)
    sharing.live.extend([0.0] * MANY)

    def each(_: float) -> None:
        if sharing.dice.random() < 0.2:
            sharing.sailthru.count(sharing.now, is_ours=False)

    sharing.run(400, each)

    assert sharing.sailthru.refused < 0.02 * sum(sharing.sailthru.used.values())
    assert sum(sharing.whole_minutes(since=60)) >= 0.9 * (LIMIT - 240) * len(sharing.whole_minutes(since=60))


@pytest.mark.parametrize("step", [-HOUR, HOUR, 20 * SECOND])
def test_a_clock_that_is_set_shuts_nobody_out(step: timedelta) -> None:
    """Within two minutes there are tokens again, also for those who share what was named by the wrong clock."""
    shared = Shared()
    budget = shared.process()
    shared.ask(budget, NOON + step, 3)

    assert any(
        shared.ask(budget, now, 3) is not None and tokens(budget, now) > 0
        for now in (NOON + step + second * SECOND for second in range(120))
    )
