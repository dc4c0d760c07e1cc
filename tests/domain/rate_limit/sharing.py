"""A simulation of replicas that share the rate limit of one account, with latency to the store and to Sailthru."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareRequest, Taken, allocate
from tests.factories import NOON

USER = ("POST", "user")
# Length of a simulation step in seconds.
TICK = 0.05
CONCURRENCY = 64
MANY = 1_000_000


@dataclass
class Sailthru:
    """Counts calls per minute of its own clock.

    Args:
        ahead: seconds by which its clock is ahead of the clocks of the replicas.
    """

    limit: int
    ahead: float
    used: Counter[int] = field(default_factory=Counter)
    ours: Counter[int] = field(default_factory=Counter)
    backfills: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    def count(self, at: float, *, is_ours: bool = True, backfill: bool = False) -> tuple[int, int]:
        """Count a call; return the remaining calls and the end of the minute."""
        minute = int(NOON.timestamp() + at + self.ahead) // 60
        self.used[minute] += 1
        self.ours[minute] += is_ours
        self.backfills[minute] += backfill
        self.refused += self.used[minute] > self.limit
        return max(0, self.limit - self.used[minute]), (minute + 1) * 60


@dataclass
class Replica:
    limiter: RateLimiter
    in_flight: int = 0
    is_requesting: bool = False
    is_dead: bool = False
    has_backlog: bool = False
    has_backfills: bool = False
    wakes_at: float = 0.0


class Sharing:
    """Replicas, the shared limit, a queue and Sailthru.

    Attributes:
        live: due times of the waiting live members.
        backfills: number of waiting members of a backfill.
        waited: seconds that each live member waited for its call.
    """

    def __init__(
        self, replicas: int, *, limit: int = 600, share: float = 0.8, ahead: float = 0.0, starts: float = 0.0, seed: int
    ) -> None:
        self.dice = random.Random(seed)
        self.share = share
        self.sailthru = Sailthru(limit, ahead)
        self.taken = Taken()
        self.now = starts
        self.live: deque[float] = deque()
        self.backfills = 0
        self.waited: list[float] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self.replicas = [self.join() for _ in range(replicas)]

    def join(self) -> Replica:
        """Return a replica that starts now."""
        return Replica(RateLimiter(self.share, is_shared=True))

    def most(self) -> int:
        """Return our calls in the busiest minute."""
        return max(self.sailthru.ours.values(), default=0)

    def whole_minutes(self, *, since: float) -> list[int]:
        """Return our calls in each complete minute since a time."""
        first = int(NOON.timestamp() + since + self.sailthru.ahead) // 60 + 1
        last = int(NOON.timestamp() + self.now + self.sailthru.ahead) // 60
        return [self.sailthru.ours[minute] for minute in range(first, last)]

    def run(self, seconds: float, each: Callable[[float], None] = lambda _: None) -> None:
        """Advance the simulation. `each` is called with the time of each step."""
        end = self.now + seconds
        while self.now < end:
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            each(self.now)
            for replica in self.dice.sample(self.replicas, len(self.replicas)):
                if not replica.is_dead:
                    self._run_loop(replica)
            self.now += TICK

    def due(self, number: int = 1) -> None:
        """Let live members become due, and wake one replica."""
        self.live += [self.now] * number
        self.dice.choice(self.replicas).wakes_at = self.now

    def _at(self, seconds: float) -> datetime:
        return NOON + timedelta(seconds=seconds)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), what))

    def _run_loop(self, replica: Replica) -> None:
        """Request a share, then claim and call, like the loop of an account."""
        if replica.is_requesting or self.now < replica.wakes_at:
            return
        has_backlog = replica.has_backlog or replica.has_backfills
        request = replica.limiter.request_share(
            *USER,
            self._at(self.now),
            max(1, CONCURRENCY - replica.in_flight) if has_backlog else 1,
            backfill=has_backlog and not replica.has_backlog,
        )
        if request is None:
            self._claim(replica)
            return
        replica.is_requesting = True
        self._later(self.dice.uniform(0.001, 0.05), lambda: self._allocate(replica, request))

    def _allocate(self, replica: Replica, request: ShareRequest) -> None:
        self.taken, given = allocate(self.taken, request)

        def answer() -> None:
            replica.is_requesting = False
            replica.limiter.receive_share(*USER, self._at(self.now), request, given)
            if not replica.is_dead:
                self._claim(replica)

        self._later(self.dice.uniform(0.001, 0.05), answer)

    def _claim(self, replica: Replica) -> None:
        now = self._at(self.now)
        free = max(0, CONCURRENCY - replica.in_flight)
        room = min(free, replica.limiter.room(*USER, now))
        replica.wakes_at = self.now + 5
        if room <= 0:
            opens_at = (replica.limiter.opens_at(*USER, now) - NOON).total_seconds()
            replica.wakes_at = min(max(opens_at, self.now), self.now + (2 if replica.in_flight else 5))
            return
        backfill_room = min(free, replica.limiter.room(*USER, now, backfill=True))
        live = min(room, len(self.live))
        backfills = min(room - live, backfill_room, self.backfills)
        for number in range(live + backfills):
            self._call(replica, backfill=number >= live)
        replica.has_backlog = live + backfills >= room and not backfills
        replica.has_backfills = live + backfills >= backfill_room
        if self.live or self.backfills:
            replica.wakes_at = self.now + TICK

    def _call(self, replica: Replica, *, backfill: bool) -> None:
        if not replica.limiter.acquire(*USER, self._at(self.now), backfill=backfill):
            return
        if backfill:
            self.backfills -= 1
        else:
            self.waited.append(self.now - self.live.popleft())
        replica.in_flight += 1
        self._later(self.dice.uniform(0.01, 0.2), lambda: self._arrive(replica, backfill=backfill))

    def _arrive(self, replica: Replica, *, backfill: bool) -> None:
        left, ends = self.sailthru.count(self.now, backfill=backfill)
        is_reported = self.dice.random() > 0.02

        def answer() -> None:
            replica.in_flight -= 1
            if is_reported:
                replica.limiter.learn(
                    *USER,
                    limit=self.sailthru.limit,
                    remaining=left,
                    resets_at=datetime.fromtimestamp(ends, NOON.tzinfo),
                    now=self._at(self.now),
                )
            replica.limiter.release(*USER, self._at(self.now))
            if self.live or self.backfills:
                replica.wakes_at = self.now

        self._later(self.dice.uniform(0.01, 0.2), answer)
