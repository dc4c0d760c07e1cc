"""Claims and delivers the due members of one account, as many at once as the circuit breaker allows."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import takewhile

import structlog

from app.delivery.circuit_breaker import CircuitBreaker
from app.delivery.deliver import Deliverer
from app.delivery.store import MemberQueue
from app.domain.account import Capacity
from app.domain.call import Claim
from app.domain.errors import StoreUnavailable
from app.repeat import Repeat

log = structlog.get_logger(__name__)

# Until a replica looks again after another replica has taken the probe.
PROBE_ELSEWHERE_PAUSE = timedelta(seconds=5)
STORE_PAUSE = timedelta(seconds=1)
HELD_BACK_PAUSE = timedelta(seconds=1)
# Poll every 10 ms while due rows are locked. Not less often: a claim also returns nothing if it only released members
# without anything to send, and many more may be due behind them.
LOCKED_PAUSE = timedelta(milliseconds=10)
# One look a minute without any wake-up: a clock that was set back must not put a member to sleep for good.
LONGEST_SLEEP = timedelta(minutes=1)
# A call that takes longer, while calls that left after it are answered, is slow by itself and keeps no place.
SLOW_CALL = timedelta(seconds=2)


class AccountLoop(Repeat):
    """Delivers for one account until it is stopped. Waiting is event-driven: an idle loop does not query the store.

    Args:
        longest_sleep: until it looks again without a wake-up.
    """

    def __init__(
        self,
        account: str,
        queue: MemberQueue,
        deliverer: Deliverer,
        breaker: CircuitBreaker,
        clock: Callable[[], datetime],
        *,
        longest_sleep: timedelta = LONGEST_SLEEP,
    ) -> None:
        super().__init__(f"deliver {account}", self._round, retry_after=STORE_PAUSE)
        self._longest_sleep = longest_sleep
        self._account = account
        self._queue = queue
        self._deliverer = deliverer
        self._breaker = breaker
        self._clock = clock
        self._is_restored = False
        # Each with the time at which it left, by the event loop's clock; the oldest first.
        self._calls: dict[asyncio.Task[None], float] = {}
        # Members with a call in flight, or with a call that Sailthru may still carry out.
        self._called: set[int] = set()
        self._newest_answered = float("-inf")
        # There was no capacity for all due members, so the next call that ends wakes the loop.
        self._wants_capacity = False
        # The last claim used the whole capacity: in all, or for backfills.
        self._has_backlog = self._has_backfills = False

    async def drain(self, *, patience: timedelta) -> None:
        """Wait until the calls in flight are settled. Cancel those that take longer: their leases end by themselves."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=patience.total_seconds())
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _round(self) -> timedelta:
        """Call for as many members as possible. Returns how long nothing more can be done without a wake-up."""
        if not self._is_restored:
            await self._breaker.restore()
            self._is_restored = True
        if self.is_stopped:
            return timedelta(0)
        await self._breaker.prepare(
            len(self._calls),
            has_backlog=self._has_backlog or self._has_backfills,
            is_backfill=not self._has_backlog,
        )
        capacity = self._breaker.capacity(len(self._calls), overtaken=self._overtaken())
        if capacity.is_probe and capacity.calls and not await self._breaker.may_probe():
            return PROBE_ELSEWHERE_PAUSE
        self._wants_capacity = capacity.calls <= 0
        if self._wants_capacity:
            return self._until_capacity()
        return await self._claim_and_call(capacity)

    async def _claim_and_call(self, capacity: Capacity) -> timedelta:
        claims: list[Claim] = []
        # The loop may have been stopped while it asked for capacity.
        if not self.is_stopped:
            claims = await self._queue.claim(self._account, capacity=capacity, lease_for=self._deliverer.lease_for)
        if not self._start_calls(claims, is_probe=capacity.is_probe):
            if capacity.is_probe:
                await self._breaker.release_probe()
            if claims:
                # Other members may be due.
                return timedelta(0)
        # Backfill members may have to wait for capacity although live members need not.
        self._has_backfills = is_held_back = len(claims) >= capacity.backfill_calls
        self._wants_capacity = len(claims) >= capacity.calls
        self._has_backlog = self._wants_capacity and not any(claim.is_backfill for claim in claims)
        if self._wants_capacity:
            # The calls that were just claimed take their places only when they leave.
            return self._until_capacity()
        due_at = await self._queue.next_due_at(self._account)
        if due_at is not None and is_held_back:
            due_at = max(due_at, self._breaker.next_capacity_at() or self._clock() + HELD_BACK_PAUSE)
        wait = self._until(due_at)
        return wait if claims else max(wait, LOCKED_PAUSE)

    def _start_calls(self, claims: list[Claim], *, is_probe: bool) -> int:
        """Start one call for each claim. Returns how many were started."""
        started = 0
        for claim in claims:
            if claim.member_id in self._called:
                # Our clock was set forward, so the lease of the call in flight, or the rest after it, seemed over. The
                # lease of this claim ends by itself, and the member is claimed again then.
                log.warning("claimed again during a call", account=self._account, member=claim.member_id)
                continue
            self._called.add(claim.member_id)
            call = asyncio.create_task(self._deliver(claim, is_probe=is_probe))
            self._calls[call] = asyncio.get_running_loop().time()
            call.add_done_callback(self._ended)
            started += 1
        return started

    def _until_capacity(self) -> timedelta:
        # A call in flight that turns out to be slow gives its place back.
        longest = SLOW_CALL if self._calls else self._longest_sleep
        return min(self._until(self._breaker.next_capacity_at()), longest)

    def _until(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return self._longest_sleep
        return max(min(moment - self._clock(), self._longest_sleep), timedelta(0))

    def _overtaken(self) -> int:
        """Count the calls that take long although Sailthru answered calls that left after them."""
        slow_since = asyncio.get_running_loop().time() - SLOW_CALL.total_seconds()
        limit = min(slow_since, self._newest_answered)
        return sum(1 for _ in takewhile(lambda left_at: left_at < limit, self._calls.values()))

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)
        if self._wants_capacity:
            self.wake()

    async def _deliver(self, claim: Claim, *, is_probe: bool) -> None:
        event_loop = asyncio.get_running_loop()
        left_at = event_loop.time()
        # Until the delivery says otherwise.
        may_go_on = True
        try:
            delivered = await self._deliverer.deliver(claim, is_probe=is_probe)
            may_go_on = delivered.may_go_on
        except StoreUnavailable as error:
            log.warning("outcome not recorded, the lease decides", account=self._account, why=str(error))
            return
        except Exception:
            # An unexpected error must not end the loop. The member is claimed again when its lease ends.
            log.exception("delivery failed", account=self._account, member=claim.member_id)
            return
        finally:
            if may_go_on:
                # By the event loop's clock, which cannot be set.
                event_loop.call_later(self._deliverer.timeout.total_seconds(), self._called.discard, claim.member_id)
            else:
                self._called.discard(claim.member_id)
        if delivered.error is None:
            self._newest_answered = max(self._newest_answered, left_at)
        if delivered.due_at is not None or is_probe:
            self.wake()
