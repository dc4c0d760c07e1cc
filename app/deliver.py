"""
Verb 2, deliver: one call for one member: ensure its lists, tell all that is pending, settle.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from app.domain.errors import (
    CallFailed,
    CredentialsRefused,
    LimitReached,
    NotSent,
    OutcomeUnknown,
    Permanent,
    UnknownList,
)
from app.domain.member import Call, Claim, Effect, Settled, Settlement, Told, plan
from app.domain.retry import RetryPolicy, window_ends_at

# Added to a lease, so that a request that leaves a moment after its claim still has two timeouts before it.
LEASE_MARGIN = timedelta(seconds=2)
# Members that met a used-up limit do not all return in the window's first moment.
LIMIT_JITTER = timedelta(seconds=2)
WINDOW_OVER = "retry_window_over"


class Lists(Protocol):
    """
    One Sailthru account.
    """

    async def ensure(self, name: str) -> str | None:
        """
        Make sure that a list exists; returns its id.
        """
        ...

    def forget(self, name: str) -> None:
        """
        Let the next `ensure` ask again.
        """
        ...

    async def tell(
        self,
        address: str,
        *,
        join: Iterable[str],
        leave: Iterable[str],
        vars: Mapping[str, object],  # noqa: A002 - Sailthru's own word
    ) -> None:
        """
        One write for one person.
        """
        ...

    async def lists_of(self, address: str) -> frozenset[str] | None:
        """
        The lists a person is on; None for a stranger.
        """
        ...


class Members(Protocol):
    """
    Where claims are held and attempts recorded.
    """

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """
        Put a request on record and renew the lease; false if it was lost.
        """
        ...

    async def settle(self, settlement: Settlement) -> Settled:
        """
        Record how the attempt ended.
        """
        ...


class Exports(Protocol):
    """
    Where it is remembered that a list exists.
    """

    async def list_is_ready(self, account: str, name: str, list_id: str | None) -> None:
        """
        Nobody needs to ask Sailthru for this list again.
        """
        ...


class Meter(Protocol):
    """
    What is counted.
    """

    def told(self, account: str, latency: timedelta) -> None:
        """
        A change was told, this long after it was accepted.
        """
        ...

    def attempted(self, account: str, outcome: str) -> None:
        """
        An attempt ended.
        """
        ...

    def join_repeated(self, account: str) -> None:
        """
        A join is sent although an earlier one may have been carried out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    How a delivery ended, for whoever paces the account.

    Args:
        error: what went wrong, None if all was told.
        due_at: when the member is to be called again, None if nothing is pending.
    """

    error: CallFailed | None
    due_at: datetime | None


class Deliverer:
    """
    Delivers for one account.

    Args:
        timeout: how long Sailthru may take for one request.
        clock, draw: the time (aware, UTC) and the dice (0 to 1).
    """

    def __init__(
        self,
        lists: Lists,
        members: Members,
        exports: Exports,
        meter: Meter,
        *,
        policy: RetryPolicy,
        timeout: timedelta,
        clock: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._lists = lists
        self._members = members
        self._exports = exports
        self._meter = meter
        self._policy = policy
        self._timeout = timeout
        self._clock = clock
        self._draw = draw

    @property
    def lease_for(self) -> timedelta:
        """
        How long a claim is held: two timeouts from the moment its request leaves, so that nobody else calls for the
        member while Sailthru may still carry out a call that we gave up.
        """
        return 2 * self._timeout + LEASE_MARGIN

    async def deliver(self, claim: Claim) -> Delivered:
        """
        Bring one claimed member up to date, with as few requests as can be.

        Raises:
            StoreUnavailable: the outcome could not be recorded. The lease ends by itself, and what was told of the
                lists stays unknown until a read.
        """
        error: CallFailed | None = None
        # What the store holds as unknown from the claim on; see `Members.claim`.
        tried = claim.call if claim.leaves_at_once and not claim.call.is_read else Call()
        call = claim.call
        try:
            if call.is_read:
                if not await self._holds(claim, call):
                    return Delivered(None, None)
                lists = await self._lists.lists_of(claim.address)
                call = plan(claim.pending, lists, was_read=True)
            if call.is_write:
                await self._ensure(claim, call)
                if not await self._holds(claim, call, is_recorded=tried is call):
                    return Delivered(None, None)
                tried = call
                self._count_repeated_joins(claim, call)
                if not await self._tell(claim, call):
                    return Delivered(None, None)
        except CallFailed as failed:
            error = failed
        settlement = self._settlement(claim, tried if error else call, error)
        self._meter.attempted(claim.account, settlement.outcome)
        settled = await self._members.settle(settlement)
        if settlement.effect is Effect.TOLD and settled.is_ours:
            self._count_latency(claim)
        return Delivered(error, settled.due_at)

    async def _holds(self, claim: Claim, call: Call, *, is_recorded: bool | None = None) -> bool:
        """
        True if the member is ours for two timeouts from now, and the request is on record: it may leave.
        """
        is_recorded = call is claim.call if is_recorded is None else is_recorded
        now = self._clock()
        if is_recorded and claim.leased_until - now >= 2 * self._timeout:
            return True
        return await self._members.begin(claim, call, until=now + self.lease_for)

    async def _ensure(self, claim: Claim, call: Call) -> None:
        for one in claim.pending:
            if one.list_name in call.join and not one.list_ready:
                list_id = await self._lists.ensure(one.list_name)
                await self._exports.list_is_ready(claim.account, one.list_name, list_id)

    async def _tell(self, claim: Claim, call: Call) -> bool:
        """
        False if the lease was lost before the call could be repeated, so that nothing was told.
        """
        try:
            await self._lists.tell(claim.address, join=call.join, leave=call.leave, vars=call.vars)
        except UnknownList:
            # Somebody deleted a list: make it again, and repeat once.
            for name in call.join:
                self._lists.forget(name)
                await self._lists.ensure(name)
            if not await self._members.begin(claim, call, until=self._clock() + self.lease_for):
                return False
            await self._lists.tell(claim.address, join=call.join, leave=call.leave, vars=call.vars)
        return True

    def _settlement(self, claim: Claim, call: Call, error: CallFailed | None) -> Settlement:
        if error is None:
            return Settlement(claim, call, Effect.TOLD, "ok")
        now, outcome = self._clock(), str(error.code)
        if isinstance(error, LimitReached):
            retry_at = window_ends_at(error.resets_at, now) + self._draw() * LIMIT_JITTER
            return Settlement(claim, call, Effect.NONE, outcome, retry_at=retry_at)
        if isinstance(error, CredentialsRefused):
            return Settlement(claim, call, Effect.NONE, outcome, retry_at=now)
        if isinstance(error, Permanent):
            dead = {one.export_id: outcome for one in claim.pending}
            return Settlement(claim, call, Effect.NONE, outcome, is_spent=True, dead=dead)
        is_lost = isinstance(error, NotSent | UnknownList)
        # A call without a readable answer may still be carried out: the next request comes one timeout after we hung
        # up, at the earliest.
        rest = self._timeout if isinstance(error, OutcomeUnknown) else timedelta(0)
        return self._failed(claim, call, error, Effect.NONE if is_lost else Effect.UNKNOWN, not_before=now + rest)

    def _failed(
        self, claim: Claim, call: Call, error: CallFailed, effect: Effect, *, not_before: datetime
    ) -> Settlement:
        now = self._clock()
        dead = {
            one.export_id: WINDOW_OVER
            for one in claim.pending
            if self._policy.is_over(first_failed_at=one.membership.first_failed_at, now=now)
        }
        retry_at = self._policy.next_attempt_at(attempts=claim.attempts, failed_at=now, draw=self._draw())
        return Settlement(
            claim,
            call,
            effect,
            str(error.code),
            retry_at=max(retry_at, not_before),
            is_spent=True,
            dead=dead,
        )

    def _count_repeated_joins(self, claim: Claim, call: Call) -> None:
        for one in claim.pending:
            if one.list_name in call.join and one.membership.told is Told.UNKNOWN:
                self._meter.join_repeated(claim.account)

    def _count_latency(self, claim: Claim) -> None:
        now = self._clock()
        for one in claim.pending:
            if one.membership.accepted_at is not None:
                self._meter.told(claim.account, now - one.membership.accepted_at)
