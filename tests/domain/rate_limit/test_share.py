"""Replicas share the rate limit of one account, and together stay within it."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from app.domain.rate_limit.bucket import (
    ANSWER_WAIT,
    BACKFILL_SHARE,
    BATCHES_PER_WINDOW,
    LARGEST_BATCH,
    UNUSED_PERMITS_KEPT,
)
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, allocate
from tests.domain.rate_limit.sharing import MANY, Sharing
from tests.factories import HOUR, MINUTE, NOON, SECOND
from tests.sizes import size

LIMIT, OURS = 600, 480
BATCH = OURS // BATCHES_PER_WINDOW
# A sixth of our share may leave at the beginning of a window.
AT_FIRST = OURS // 6
USER = ("POST", "user")
ENDS = int(NOON.timestamp()) + 60


def request(
    calls: int = 10,
    *,
    ends: int | None = ENDS,
    allowed: int | None = 100,
    returned: int = 0,
    backfills: int = 0,
    carried_over: int = 0,
) -> ShareRequest:
    return ShareRequest(ends, allowed, calls, returned, backfills, carried_over)


USED = Taken(ENDS, 40, 7, 300, 200)


@pytest.mark.parametrize(
    ("taken", "asked", "then", "given"),
    [
        # All replicas together get no more than the allowed calls. If more calls are taken, nothing is granted.
        (USED, request(), USED._replace(taken=50), ShareGrant(10, 50, 7, ENDS)),
        (USED, request(70), USED._replace(taken=100), ShareGrant(60, 100, 7, ENDS)),
        (USED, request(allowed=40), USED, ShareGrant(0, 40, 7, ENDS)),
        (USED, request(allowed=5), USED, ShareGrant(0, 40, 7, ENDS)),
        # Returned calls can be granted again, even to the same replica.
        (USED, request(0, returned=6), USED._replace(taken=34), ShareGrant(0, 34, 7, ENDS)),
        (USED, request(80, returned=6), USED._replace(taken=100), ShareGrant(66, 100, 7, ENDS)),
        (USED, request(0, returned=90), USED._replace(taken=0), ShareGrant(0, 0, 7, ENDS)),
        # Calls carried over from another window count in this one.
        (USED, request(70, carried_over=5), USED._replace(taken=100), ShareGrant(55, 100, 7, ENDS)),
        # Backfill calls are counted.
        (USED, request(0, backfills=3), USED._replace(backfills=10), ShareGrant(0, 40, 10, ENDS)),
        # The next window starts at zero, and the previous one is stored.
        (USED, request(ends=ENDS + 60, backfills=1), Taken(ENDS + 60, 10, 1, 40, 7), ShareGrant(10, 10, 1, ENDS + 60)),
        # After a gap there is no previous window.
        (USED, request(ends=ENDS + 120), Taken(ENDS + 120, 10, 0, 0, 0), ShareGrant(10, 10, 0, ENDS + 120)),
        (Taken(), request(), Taken(ENDS, 10), ShareGrant(10, 10, 0, ENDS)),
        # A request for the previous window counts there.
        (
            USED,
            request(ends=ENDS - 60, allowed=305, backfills=2),
            USED._replace(taken_before=305, backfills_before=202),
            ShareGrant(5, 305, 202, ENDS),
        ),
        # A request for an older window counts in the newest.
        (USED, request(ends=ENDS - 120), USED._replace(taken=50), ShareGrant(10, 50, 7, ENDS)),
        # Without a known window and limit the request is granted in the newest.
        (USED, request(1, ends=None, allowed=None), USED._replace(taken=41), ShareGrant(1, 41, 7, ENDS)),
        (Taken(), request(1, ends=None, allowed=None), Taken(0, 1), ShareGrant(1, 1, 0, 0)),
        # A newest end hours ahead was wrong. It does not block the others.
        (USED, request(ends=ENDS - 3600), Taken(ENDS - 3600, 50, 7), ShareGrant(10, 50, 7, ENDS - 3600)),
    ],
)
def test_allocation(taken: Taken, asked: ShareRequest, then: Taken, given: ShareGrant) -> None:
    assert allocate(taken, asked) == (then, given)


@dataclass
class Shared:
    """The calls that replicas have taken of the limit, and the calls that Sailthru has counted."""

    taken: Taken = field(default_factory=Taken)
    used: int = 0
    asked: int = 0

    def request(
        self, limiter: RateLimiter, now: datetime = NOON, count: int = 1, *, backfill: bool = False
    ) -> ShareRequest | None:
        """Request a share and receive the grant, like a replica before it calls."""
        asked = limiter.request_share(*USER, now, count, backfill=backfill)
        if asked is not None:
            self.asked += 1
            self.taken, given = allocate(self.taken, asked)
            limiter.receive_share(*USER, now, asked, given)
        return asked

    def call(self, limiter: RateLimiter, now: datetime = NOON, *, backfill: bool = False) -> bool:
        """Make one call if there is a permit."""
        if not limiter.acquire(*USER, now, backfill=backfill):
            return False
        self.answer(limiter, now)
        return True

    def answer(self, limiter: RateLimiter, now: datetime = NOON) -> None:
        self.used += 1
        ends = datetime.fromtimestamp((int(now.timestamp()) // 60 + 1) * 60, NOON.tzinfo)
        limiter.learn(*USER, limit=LIMIT, remaining=LIMIT - self.used, resets_at=ends, now=now)
        limiter.release(*USER, now)

    def replica(self, now: datetime = NOON) -> RateLimiter:
        """Return the limiter of a replica that has seen an answer and reported it."""
        limiter = RateLimiter(0.8, is_shared=True)
        self.request(limiter, now)
        assert self.call(limiter, now)
        self.request(limiter, now, 0)
        return limiter

    @property
    def taken_by_all(self) -> int:
        return self.taken.taken


def permits(limiter: RateLimiter, now: datetime = NOON) -> int:
    return limiter.room(*USER, now)


def test_no_call_leaves_without_permit() -> None:
    """The very first call needs one too."""
    shared, limiter = Shared(), RateLimiter(0.8, is_shared=True)
    first = (permits(limiter), limiter.acquire(*USER, NOON))
    shared.request(limiter)
    second = (permits(limiter), shared.call(limiter))
    third = (permits(limiter), limiter.acquire(*USER, NOON))

    assert (first, second, third) == ((0, False), (1, True), (0, False))
    assert list(limiter.room_left(NOON)) == [("POST", "user", AT_FIRST - 1)]


def test_limiter_that_is_not_shared_requests_nothing() -> None:
    assert RateLimiter(0.8).request_share(*USER, NOON) is None


def test_one_call_is_requested_while_limit_is_unknown() -> None:
    limiter = RateLimiter(0.8, is_shared=True)

    assert limiter.request_share(*USER, NOON, 64) == request(1, ends=None, allowed=None)
    shared = Shared()
    shared.request(limiter)
    assert limiter.acquire(*USER, NOON)
    assert limiter.request_share(*USER, NOON, 64) is None


def test_first_call_counts_in_window_that_its_answer_reports() -> None:
    """No window was known when the call was granted."""
    shared = Shared()
    shared.replica()
    first = shared.taken
    shared.replica()

    assert first == Taken(ENDS, 1)
    # The second replica does not know that its call was counted there. The call counts twice, which is safe.
    assert shared.taken_by_all == 3


def test_request_asks_for_what_is_needed() -> None:
    """Nothing is requested while there are enough permits."""
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter, count=64)
    in_hand, again = permits(limiter), shared.request(limiter, count=64)
    shared.call(limiter)
    next_request = limiter.request_share(*USER, NOON, 64)

    assert (in_hand, again) == (64, None)
    assert next_request == request(1, allowed=AT_FIRST)


def test_replica_that_used_all_permits_gets_a_batch() -> None:
    """A batch is a fiftieth of our share, at most 20. The first request of a window is for one call."""
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter)
    batches = [permits(limiter)]
    for _ in range(3):
        while shared.call(limiter):
            pass
        shared.request(limiter)
        batches.append(permits(limiter))
    shared.request(limiter, NOON + MINUTE)

    assert batches == [BATCH] * 4
    assert permits(limiter, NOON + MINUTE) == 1
    assert BATCH < LARGEST_BATCH


def test_unused_permits_are_returned_after_two_seconds() -> None:
    """Other replicas can take them."""
    shared = Shared()
    limiter, other = shared.replica(), shared.replica()
    before = shared.taken_by_all
    shared.request(limiter, count=64)
    with_64 = shared.taken_by_all
    early = limiter.request_share(*USER, NOON + 0.9 * UNUSED_PERMITS_KEPT)
    late = shared.request(limiter, NOON + UNUSED_PERMITS_KEPT)
    shared.request(other, NOON + UNUSED_PERMITS_KEPT, 64)

    assert early is None
    assert late == request(0, allowed=AT_FIRST + 16, returned=63)
    assert with_64 == before + 64
    assert permits(limiter, NOON + UNUSED_PERMITS_KEPT) == 1
    assert permits(other, NOON + UNUSED_PERMITS_KEPT) == 64


def test_idle_replica_does_not_request_again() -> None:
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter)
    shared.request(limiter, NOON + UNUSED_PERMITS_KEPT)
    before = shared.asked
    for second in range(3, 50):
        shared.request(limiter, NOON + second * SECOND)

    assert shared.asked == before


def test_calls_taken_by_other_replicas_leave_no_room() -> None:
    """After an empty grant the replica asks again, but not at once."""
    shared = Shared()
    first, second = shared.replica(), shared.replica()
    left = AT_FIRST - shared.taken_by_all
    shared.request(first, count=AT_FIRST)
    shared.request(second)

    assert (permits(first), permits(second)) == (left, 0)
    assert second.opens_at(*USER, NOON) >= NOON + ANSWER_WAIT
    later = NOON + SECOND
    shared.request(second, later)
    assert permits(second, later) >= 1


def test_permits_returned_by_other_replicas_are_found() -> None:
    """They are found even at the end of a window, when no new room appears."""
    shared, now = Shared(), NOON + 52 * SECOND
    first = shared.replica()
    second = shared.replica()
    shared.request(first, now, OURS)
    shared.request(second, now)
    nothing = permits(second, now)
    shared.request(first, now + UNUSED_PERMITS_KEPT)
    shared.request(second, now + UNUSED_PERMITS_KEPT)

    assert nothing == 0
    assert permits(second, now + UNUSED_PERMITS_KEPT) > 0


def test_permits_of_past_window_are_not_used() -> None:
    """This applies to unused permits and to permits that arrive late."""
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter, NOON + 59 * SECOND, 20)
    before, late = permits(limiter, NOON + 59 * SECOND), limiter.request_share(*USER, NOON + 59 * SECOND, 64)
    assert late is not None
    shared.taken, given = allocate(shared.taken, late)
    now = NOON + MINUTE + SECOND
    in_hand = permits(limiter, now)
    limiter.receive_share(*USER, now, late, given)
    too_late = permits(limiter, now)
    shared.request(limiter, now, 3)

    assert (before, given.calls > 0) == (20, True)
    assert (in_hand, too_late, permits(limiter, now)) == (0, 0, 3)
    assert shared.taken_by_all == 3


def test_calls_in_flight_between_two_windows_count_in_both() -> None:
    """Sailthru may count them in the next window."""
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter, NOON + 59 * SECOND, 20)
    for _ in range(20):
        assert limiter.acquire(*USER, NOON + 59 * SECOND)
    asked = shared.request(limiter, NOON + MINUTE)

    assert asked is not None
    assert asked.carried_over == 20
    assert shared.taken == Taken(ENDS + 60, 21, 0, 21, 0)


def test_grant_of_newer_window_moves_replica_to_it() -> None:
    """Its first answer came late in a minute, so it expects later windows to begin late too."""
    shared = Shared()
    late = shared.replica(NOON + 40 * SECOND)
    shared.taken = Taken(ENDS + 60, 5, 0, OURS, 0)
    now = NOON + 61 * SECOND
    shared.request(late, now)
    stale = permits(late, now)
    shared.request(late, now)

    assert stale == 0
    assert permits(late, now) == 1
    assert shared.taken_by_all == 6


def test_backfills_of_all_replicas_leave_a_fifth_to_live_calls() -> None:
    """Replicas with only backfills do not take that fifth."""
    shared = Shared()
    first, second, lonely = (shared.replica() for _ in range(3))
    for tenth in range(300):
        now = NOON + tenth * SECOND / 10
        for limiter in (first, second):
            shared.request(limiter, now, 64, backfill=True)
            while shared.call(limiter, now, backfill=True):
                pass
    allowed = AT_FIRST + OURS // 2
    called, taken = shared.used - 3, shared.taken_by_all
    shared.request(lonely, now)

    assert abs(called - BACKFILL_SHARE * allowed) <= 2
    assert taken <= called + 3 + 4
    assert shared.call(lonely, now)


def test_calls_of_replicas_are_not_mistaken_for_other_tools() -> None:
    """An idle replica learns from the shared limit how many of the reported calls are ours."""
    shared = Shared()
    busy, idle = shared.replica(), shared.replica()
    for second in range(30):
        now = NOON + second * SECOND
        for _ in range(8):
            shared.request(busy, now)
            shared.call(busy, now)
    shared.request(idle, now)
    assert shared.call(idle, now)
    asked = shared.request(idle, now, 64)

    assert shared.used == 2 + 240 + 1
    assert asked is not None
    assert asked.allowed == math.ceil(OURS * (29 + 10) / 60)
    assert room_left(idle, now) == asked.allowed - shared.taken_by_all + permits(idle, now)


def room_left(limiter: RateLimiter, now: datetime) -> int:
    ((_, _, left),) = limiter.room_left(now)
    return left


def test_calls_of_other_tools_leave_less_to_all_replicas() -> None:
    shared = Shared()
    limiter = shared.replica()
    shared.used += 400
    now = NOON + 50 * SECOND
    shared.request(limiter, now)
    shared.call(limiter, now)
    shared.request(limiter, now, 20)
    asked = limiter.request_share(*USER, now, 600)

    assert asked is not None
    assert asked.allowed is not None
    assert asked.allowed <= LIMIT - 400


@pytest.mark.parametrize("limit", [40, 600, 3000])
@pytest.mark.parametrize("seed", range(size(1, 4)))
def test_replicas_with_backlog_use_our_whole_share_and_no_more(limit: int, seed: int) -> None:
    """One of three replicas dies with all its permits. A new one starts and needs one call to learn the limit."""
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
@pytest.mark.parametrize("seed", range(size(1, 4)))
def test_bursts_keep_within_our_share(limit: int, seed: int) -> None:
    """This holds even just before a minute ends, when Sailthru counts calls in the next minute."""
    sharing = Sharing(3, limit=limit, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)

    def each(now: float) -> None:
        if sharing.dice.random() < 0.005:
            sharing.due(sharing.dice.randint(1, limit // 4))
        if (now + sharing.sailthru.ahead) % 60 > 59.9 and sharing.dice.random() < 0.5:
            sharing.due(40)

    sharing.run(300, each)

    assert sharing.most() <= math.floor(0.8 * limit)


@pytest.mark.parametrize("seed", range(size(1, 4)))
def test_live_calls_find_room_at_once_during_backfill(seed: int) -> None:
    sharing = Sharing(3, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)
    sharing.backfills = MANY

    def each(_: float) -> None:
        if sharing.dice.random() < 0.005:
            sharing.due()

    sharing.run(300, each)

    assert len(sharing.waited) > 10
    assert max(sharing.waited) < 1
    assert min(sharing.whole_minutes(since=60)) >= 0.97 * BACKFILL_SHARE * OURS


@pytest.mark.parametrize("seed", range(size(1, 3)))
def test_replicas_leave_room_for_other_tools(seed: int) -> None:
    """Other tools make four calls a second on average. The limit is hardly ever reached, and the rest is used."""
    sharing = Sharing(3, ahead=seed * 7.3, starts=seed * 11.0, seed=seed)
    sharing.live.extend([0.0] * MANY)

    def each(_: float) -> None:
        if sharing.dice.random() < 0.2:
            sharing.sailthru.count(sharing.now, is_ours=False)

    sharing.run(400, each)

    assert sharing.sailthru.refused < 0.02 * sum(sharing.sailthru.used.values())
    assert sum(sharing.whole_minutes(since=60)) >= 0.9 * (LIMIT - 240) * len(sharing.whole_minutes(since=60))


@pytest.mark.parametrize("step", [-HOUR, HOUR, 20 * SECOND])
def test_clock_change_blocks_replicas_for_two_minutes_at_most(step: timedelta) -> None:
    """This includes replicas that share windows of the wrong clock."""
    shared = Shared()
    limiter = shared.replica()
    shared.request(limiter, NOON + step, 3)

    assert any(
        shared.request(limiter, now, 3) is not None and permits(limiter, now) > 0
        for now in (NOON + step + second * SECOND for second in range(120))
    )
