"""The delivery loop of one account: claims due members and delivers them within the circuit breaker's capacity."""

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

# The wait while another replica has reserved the probe.
PROBE_RESERVED_WAIT = timedelta(seconds=5)
STORE_RETRY_WAIT = timedelta(seconds=1)
# The wait while backfill members have no capacity and the time of the next capacity is unknown.
BACKFILL_WAIT = timedelta(seconds=1)
# Poll every 10 ms while due rows are locked. A claim is also empty if it only released members without a request to
# send. Many more members may be due behind them, so a longer interval would delay deliveries.
LOCKED_POLL_INTERVAL = timedelta(milliseconds=10)
# The loop polls once a minute even without a wake-up, because a clock that was set back delays all due times.
LONGEST_SLEEP = timedelta(minutes=1)
# A call that takes longer than this, while Sailthru answers later calls, uses no slot.
SLOW_CALL = timedelta(seconds=2)


class AccountLoop(Repeat):
    """Delivers for one account until it is stopped. An idle loop waits for a wake-up and does not query the store.

    Args:
        longest_sleep: the longest wait without a wake-up.
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
        super().__init__(f"deliver {account}", self._run_round, retry_after=STORE_RETRY_WAIT)
        self._longest_sleep = longest_sleep
        self._account = account
        self._queue = queue
        self._deliverer = deliverer
        self._breaker = breaker
        self._clock = clock
        self._is_restored = False
        # The time at which each call left, by the event loop's clock. The oldest call is first.
        self._calls: dict[asyncio.Task[None], float] = {}
        # Members with a call in flight, or with a write that Sailthru may still apply.
        self._busy: set[int] = set()
        self._newest_answered = float("-inf")
        # Due members may be waiting for capacity, so the end of a call wakes the loop.
        self._needs_capacity = False
        # The last claim used the whole capacity: of all calls, or of backfills.
        self._has_backlog = self._has_backfills = False

    async def drain(self, *, patience: timedelta) -> None:
        """Wait until the calls in flight are settled. Cancel calls that take longer; their leases expire."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=patience.total_seconds())
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run_round(self) -> timedelta:
        """Start calls for as many members as possible. Return the wait until the next round."""
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
        capacity = self._breaker.capacity(len(self._calls), overtaken=self._count_overtaken())
        if capacity.is_probe and capacity.calls and not await self._breaker.reserve_probe():
            return PROBE_RESERVED_WAIT
        self._needs_capacity = capacity.calls <= 0
        if self._needs_capacity:
            return self._time_until_capacity()
        return await self._claim_and_call(capacity)

    async def _claim_and_call(self, capacity: Capacity) -> timedelta:
        claims: list[Claim] = []
        # The loop may have been stopped during the preparation.
        if not self.is_stopped:
            claims = await self._queue.claim(self._account, capacity=capacity, lease_for=self._deliverer.lease_for)
        if not self._start_calls(claims, is_probe=capacity.is_probe):
            if capacity.is_probe:
                await self._breaker.release_probe()
            if claims:
                # Other members may be due.
                return timedelta(0)
        # Backfill members may have to wait for capacity while live members need not.
        self._has_backfills = is_held_back = len(claims) >= capacity.backfill_calls
        self._needs_capacity = len(claims) >= capacity.calls
        self._has_backlog = self._needs_capacity and not any(claim.is_backfill for claim in claims)
        if self._needs_capacity:
            # The calls that were just started use rate limit only when they leave.
            return self._time_until_capacity()
        due_at = await self._queue.next_due_at(self._account)
        if due_at is not None and is_held_back:
            due_at = max(due_at, self._breaker.next_capacity_at() or self._clock() + BACKFILL_WAIT)
        wait = self._time_until(due_at)
        return wait if claims else max(wait, LOCKED_POLL_INTERVAL)

    def _start_calls(self, claims: list[Claim], *, is_probe: bool) -> int:
        """Start one call for each claim. Return the number of started calls."""
        started = 0
        for claim in claims:
            if claim.member_id in self._busy:
                # The clock was set forward, so the lease of the earlier call seemed expired. The member is claimed
                # again when the lease of this claim expires.
                log.warning("member claimed again during a call", account=self._account, member=claim.member_id)
                continue
            self._busy.add(claim.member_id)
            call = asyncio.create_task(self._deliver(claim, is_probe=is_probe))
            self._calls[call] = asyncio.get_running_loop().time()
            call.add_done_callback(self._on_call_end)
            started += 1
        return started

    def _time_until_capacity(self) -> timedelta:
        # A call in flight frees its slot as soon as it counts as slow.
        longest = SLOW_CALL if self._calls else self._longest_sleep
        return min(self._time_until(self._breaker.next_capacity_at()), longest)

    def _time_until(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return self._longest_sleep
        return max(min(moment - self._clock(), self._longest_sleep), timedelta(0))

    def _count_overtaken(self) -> int:
        """Count the slow calls that left before a call that Sailthru has answered."""
        slow_since = asyncio.get_running_loop().time() - SLOW_CALL.total_seconds()
        limit = min(slow_since, self._newest_answered)
        return sum(1 for _ in takewhile(lambda left_at: left_at < limit, self._calls.values()))

    def _on_call_end(self, call: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)
        if self._needs_capacity:
            self.wake()

    async def _deliver(self, claim: Claim, *, is_probe: bool) -> None:
        event_loop = asyncio.get_running_loop()
        left_at = event_loop.time()
        # Assume the worst if the delivery raises an error.
        may_still_apply = True
        try:
            delivered = await self._deliverer.deliver(claim, is_probe=is_probe)
            may_still_apply = delivered.may_still_apply
        except StoreUnavailable as error:
            log.warning(
                "outcome not recorded, retrying after the lease",
                account=self._account,
                why=str(error),
            )
            return
        except Exception:
            # An unexpected error must not end the loop. The member is claimed again when its lease expires.
            log.exception("delivery failed", account=self._account, member=claim.member_id)
            return
        finally:
            if may_still_apply:
                # The event loop's clock is monotonic, so a changed wall clock does not shorten the wait.
                event_loop.call_later(self._deliverer.timeout.total_seconds(), self._busy.discard, claim.member_id)
            else:
                self._busy.discard(claim.member_id)
        if delivered.error is None:
            self._newest_answered = max(self._newest_answered, left_at)
        if delivered.due_at is not None or is_probe:
            self.wake()
