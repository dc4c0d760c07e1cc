"""TODO."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Protocol

import structlog

from app.delivery.deliver import Delivered
from app.domain.account import Capacity
from app.domain.call import Claim
from app.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)

FIRST_PAUSE = timedelta(seconds=5)
STORE_PAUSE = timedelta(seconds=1)
HELD_BACK_PAUSE = timedelta(seconds=1)
# Somebody is due whom a claim did not get, since another transaction holds the row. Not for longer: a claim that only
# let those go who had nothing to tell returns nobody as well, and many may be in line behind them.
LOCKED_PAUSE = timedelta(milliseconds=10)
# One look a minute even if nothing wakes us: a clock that was set back must not put a member to sleep for good.
LONGEST_SLEEP = timedelta(minutes=1)
# A call that takes longer, while calls that left after it are answered, is slow by itself and holds nobody back.
SLOW_CALL = timedelta(seconds=2)

Clock = Callable[[], datetime]


class Members(Protocol):
    """Who is due."""

    async def claim(self, account: str, *, room: Capacity, lease_for: timedelta) -> list[Claim]:
        """Take members that are due."""
        ...

    async def next_due_at(self, account: str) -> datetime | None:
        """When the next one is due."""
        ...

    async def next_batch(self, export_id: int) -> bool:
        """Do the next slice of what was ordered of an export for each of its members; true while there is more."""
        ...

    async def flush(self) -> None:
        """Wait for transactions under way."""
        ...


class Deliveries(Protocol):
    """Verb 2 for one account."""

    @property
    def lease_for(self) -> timedelta:
        """How long a claim is held."""
        ...

    @property
    def timeout(self) -> timedelta:
        """How long Sailthru may take for a request: for as long after we hung up it may still carry it out."""
        ...

    async def deliver(self, claim: Claim, *, is_probe: bool = False) -> Delivered:
        """Bring one member up to date."""
        ...


class CircuitBreaker(Protocol):
    """Whether calls of one account may leave."""

    async def open(self) -> None:
        """Go on from what was kept."""
        ...

    async def prepare(self, in_flight: int, *, has_backlog: bool, is_backfill: bool) -> None:
        """Find out, before `room`, what depends on other replicas."""
        ...

    def room(self, in_flight: int, *, overtaken: int = 0) -> Capacity:
        """How many calls may leave now, beside those in flight."""
        ...

    async def may_probe(self) -> bool:
        """Whether a probe that there is room for is ours."""
        ...

    async def leave_probe(self) -> None:
        """Let somebody else make the probe that was ours."""
        ...

    def opens_at(self) -> datetime | None:
        """When there may be room again although no call ends."""
        ...


class AccountLoop:
    """Claims and delivers for one account: one call for each member, as many at once as its gate has room for.

    Args:
        longest_sleep: until it looks again although nobody woke it.
    """

    def __init__(
        self,
        account: str,
        members: Members,
        deliveries: Deliveries,
        gate: CircuitBreaker,
        clock: Clock,
        *,
        longest_sleep: timedelta = LONGEST_SLEEP,
    ) -> None:
        self._longest_sleep = longest_sleep
        self._account = account
        self._members = members
        self._deliveries = deliveries
        self._gate = gate
        self._clock = clock
        # With the time at which each left by the loop's clock, the oldest first.
        self._calls: dict[asyncio.Task[None], float] = {}
        # By a call that is under way, or that may still be carried out.
        self._called: set[int] = set()
        self._newest_answered = float("-inf")
        self._woken = asyncio.Event()
        self._stopping = False
        # There was no room for all, so the next call that ends has to wake the loop.
        self._wants_room = False
        # The last claim found as many as there was room for: in all, or for those of backfills.
        self._has_backlog = self._has_backfills = False

    def wake(self) -> None:
        """Look again: somebody is due, or a place has become free."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nobody any more."""
        self._stopping = True
        self._woken.set()

    async def drain(self, *, patience: timedelta) -> None:
        """Wait until the calls in flight have been settled; what takes longer is cut off and settled by its lease."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=patience.total_seconds())
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def run(self) -> None:
        """Until stopped."""
        is_open = False
        while not self._stopping:
            # Before anything is waited for: whoever wakes or stops us from here on is not missed.
            self._woken.clear()
            try:
                if not is_open:
                    await self._gate.open()
                    is_open = True
                    # It may have been stopped meanwhile.
                    continue
                wait = await self._round()
            except StoreUnavailable as error:
                log.warning("store unavailable, deliveries wait", account=self._account, why=str(error))
                wait = STORE_PAUSE
            except Exception:
                # A mistake of ours must not end the loop: everybody behind the culprit waits for it.
                log.exception("claiming failed", account=self._account)
                wait = STORE_PAUSE
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait.total_seconds())

    async def _round(self) -> timedelta:
        """Claim what can be called for now; returns how long nothing more can be done unless somebody wakes us."""
        await self._gate.prepare(
            len(self._calls),
            has_backlog=self._has_backlog or self._has_backfills,
            is_backfill=not self._has_backlog,
        )
        room = self._gate.room(len(self._calls), overtaken=self._overtaken())
        if room.is_probe and room.calls and not await self._gate.may_probe():
            return FIRST_PAUSE
        self._wants_room = room.calls <= 0
        if self._wants_room:
            return self._until_there_is_room()
        claims: list[Claim] = []
        # It may have been stopped while it asked for room.
        if not self._stopping:
            claims = await self._members.claim(self._account, room=room, lease_for=self._deliveries.lease_for)
        if not self._call_for(claims, is_probe=room.is_probe):
            if room.is_probe:
                await self._gate.leave_probe()
            if claims:
                # Others may be due.
                return timedelta(0)
        self._wants_room = len(claims) >= room.calls
        self._has_backlog = self._wants_room and not any(claim.is_backfill for claim in claims)
        self._has_backfills = len(claims) >= room.backfill_calls
        if self._wants_room:
            # The calls that were just claimed take their room only when they leave.
            return self._until_there_is_room()
        # Members that only a backfill made due may have to wait for room although there is some for others.
        is_held_back = len(claims) >= room.backfill_calls
        due_at = await self._members.next_due_at(self._account)
        if due_at is not None and is_held_back:
            opens_at = self._gate.opens_at()
            due_at = max(due_at, opens_at or self._clock() + HELD_BACK_PAUSE)
        wait = self._until(due_at)
        return wait if claims else max(wait, LOCKED_PAUSE)

    def _call_for(self, claims: list[Claim], *, is_probe: bool) -> int:
        """Begin a call for each of them; returns how many there are."""
        begun = 0
        for claim in claims:
            if claim.member_id in self._called:
                # Our clock was set forward, so that the lease of the call under way, or the rest after it, seemed over.
                # What that call does is found out when the lease of this claim is over.
                log.warning("claimed again during a call", account=self._account, member=claim.member_id)
                continue
            self._called.add(claim.member_id)
            call = asyncio.create_task(self._deliver(claim, is_probe=is_probe))
            self._calls[call] = asyncio.get_running_loop().time()
            call.add_done_callback(self._ended)
            begun += 1
        return begun

    def _until_there_is_room(self) -> timedelta:
        # Calls under way that turn out to be slow make room too.
        longest = SLOW_CALL if self._calls else self._longest_sleep
        return min(self._until(self._gate.opens_at()), longest)

    def _until(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return self._longest_sleep
        return max(min(moment - self._clock(), self._longest_sleep), timedelta(0))

    def _overtaken(self) -> int:
        """How many calls take long although Sailthru answered calls that left after them."""
        slow_since = asyncio.get_running_loop().time() - SLOW_CALL.total_seconds()
        limit = min(slow_since, self._newest_answered)
        return sum(1 for _ in takewhile(lambda left_at: left_at < limit, self._calls.values()))

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.pop(call, None)
        if self._wants_room:
            self.wake()

    async def _deliver(self, claim: Claim, *, is_probe: bool) -> None:
        running = asyncio.get_running_loop()
        left_at = running.time()
        # Unless we are told that it is over.
        may_go_on = True
        try:
            delivered = await self._deliveries.deliver(claim, is_probe=is_probe)
            may_go_on = delivered.may_go_on
        except StoreUnavailable as error:
            log.warning("outcome not recorded, the lease decides", account=self._account, why=str(error))
            return
        except Exception:
            # A mistake of ours must not end the loop; the member comes again when its lease ends.
            log.exception("delivery failed", account=self._account, member=claim.member_id)
            return
        finally:
            if may_go_on:
                # By the loop's clock, which nobody sets.
                running.call_later(self._deliveries.timeout.total_seconds(), self._called.discard, claim.member_id)
            else:
                self._called.discard(claim.member_id)
        if delivered.error is None:
            self._newest_answered = max(self._newest_answered, left_at)
        if delivered.due_at is not None or is_probe:
            self.wake()
