"""Delivers one claimed member: ensures its lists, sends its changes in as few calls as possible, and settles."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.delivery.attempt import NOT_APPLIED, READS_LAG, Attempt, Outcomes
from app.delivery.circuit_breaker import CircuitBreaker
from app.delivery.store import MemberQueue
from app.domain.call import Call, Claim, Pending, plan
from app.domain.destination import Destination, ListMaker
from app.domain.errors import CallFailed, Permanent, UnknownList
from app.domain.membership import Confirmed
from app.domain.retry import RetryPolicy
from app.domain.settlement import Settlement
from app.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of a delivery.

    Args:
        error: None if Sailthru confirmed all pending changes.
        due_at: when the member is due again; None if nothing is pending.
        may_still_apply: Sailthru may still apply a write, until one timeout after the connection was closed.
    """

    error: CallFailed | None
    due_at: datetime | None
    may_still_apply: bool = False


class _LeaseLost(Exception):
    """Another worker has claimed the member. No further request may leave."""


class Deliverer:
    """Delivers the members of one account.

    Args:
        timeout: how long Sailthru may take for one request.
        draw: returns a random number from 0 to 1.
    """

    def __init__(
        self,
        destination: Destination,
        queue: MemberQueue,
        list_maker: ListMaker,
        metrics: Metrics,
        breaker: CircuitBreaker,
        *,
        policy: RetryPolicy,
        timeout: timedelta,
        clock: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._destination = destination
        self._queue = queue
        self._list_maker = list_maker
        self._metrics = metrics
        self._breaker = breaker
        self._outcomes = Outcomes(policy, timeout, draw)
        self._timeout = timeout
        self._clock = clock

    @property
    def lease_for(self) -> timedelta:
        """The duration of a lease.

        A lease covers two timeouts after a request leaves: Sailthru may still apply the call during the second one. The
        extra seconds allow for the delay between the claim and its request.
        """
        return 2 * self._timeout + READS_LAG

    @property
    def timeout(self) -> timedelta:
        """The time limit of one request. Sailthru may still apply a request for as long after it timed out."""
        return self._timeout

    async def deliver(self, claim: Claim, *, is_probe: bool = False) -> Delivered:
        """Send the pending changes of one claimed member.

        Args:
            is_probe: the circuit breaker is open, and this call tests whether Sailthru answers again.

        Raises:
            StoreUnavailable: the outcome could not be recorded. The lease expires, and the changes that were sent stay
                unknown until the next read.
        """
        attempt = Attempt(claim)
        try:
            await self._carry_out(attempt)
        except _LeaseLost:
            if is_probe:
                await self._breaker.release_probe()
            return Delivered(None, None)
        except CallFailed as error:
            attempt.error = error
        spent_at: datetime | None = None
        if claim.call.is_read or claim.call.is_write:
            spent_at = await self._breaker.judge(claim.member_id, attempt.error, is_probe=is_probe)
        elif is_probe:
            # No request was made, so the account was not tested.
            await self._breaker.release_probe()
        settlement = self._outcomes.settlement(attempt, spent_at=spent_at, now=self._clock())
        self._metrics.attempted(claim.account, settlement.outcome)
        settled = await self._queue.settle(settlement)
        if settled.is_ours:
            self._count_latency(settlement)
        return Delivered(attempt.error, settled.due_at, attempt.may_still_apply)

    async def _carry_out(self, attempt: Attempt) -> None:
        claim, call = attempt.claim, attempt.claim.call
        if call.is_read:
            await self._hold(claim, call)
            attempt.lists, attempt.was_read = await self._lists_of(claim), True
            call = plan(claim.pending, attempt.lists, was_read=True)
        if len(claim.pending) == 1:
            await self._write_one(attempt, claim.pending[0], call)
            return
        try:
            await self._write(attempt, call)
        except (Permanent, UnknownList):
            # Sailthru applied no part of the call.
            attempt.in_flight = None
            await self._write_one_by_one(attempt)

    async def _write_one_by_one(self, attempt: Attempt) -> None:
        """Send one call per membership, so that a refusal affects only the membership that caused it."""
        refused: Permanent | None = None
        unknown: UnknownList | None = None
        for pending in attempt.claim.pending:
            call = plan([pending], attempt.lists, was_read=attempt.was_read)
            try:
                await self._write_one(attempt, pending, call)
            except Permanent as error:
                refused, attempt.in_flight = error, None
                attempt.dead[pending.export_id] = str(error.code)
            except UnknownList as error:
                unknown, attempt.in_flight = error, None
        # An unknown list takes precedence over a refusal: its membership must be retried.
        failure = unknown or refused
        if failure is not None:
            raise failure

    async def _write_one(self, attempt: Attempt, one: Pending, call: Call) -> None:
        try:
            await self._write(attempt, call)
        except UnknownList:
            if not call.leave or not self._can_be_read(one) or not await self._is_off(attempt.claim, one.list_name):
                raise
            attempt.in_flight = None
            attempt.confirmed |= call.covers

    def _can_be_read(self, one: Pending) -> bool:
        """Return whether a read shows the last confirmed write to this list; before that it may show older lists."""
        confirmed_at = one.membership.confirmed_at
        return confirmed_at is None or self._clock() - confirmed_at >= READS_LAG

    async def _is_off(self, claim: Claim, list_name: str) -> bool:
        """Ask Sailthru whether the member is off a list that it called unknown.

        If that answer was wrong and we believed it, the member would stay on the list for good.
        """
        await self._hold(claim, Call(is_read=True))
        lists = await self._lists_of(claim)
        return lists is None or list_name not in lists

    async def _write(self, attempt: Attempt, call: Call) -> None:
        if call.is_write:
            await self._ensure_lists(attempt.claim, call)
            await self._hold(attempt.claim, call)
            attempt.in_flight = call
            try:
                await self._send(attempt.claim, call)
            except CallFailed as error:
                if not isinstance(error, NOT_APPLIED):
                    self._count_repeated_joins(attempt.claim, call)
                raise
            self._count_repeated_joins(attempt.claim, call)
            attempt.in_flight = None
        attempt.confirmed |= call.covers

    async def _hold(self, claim: Claim, call: Call, *, is_repeat: bool = False) -> None:
        """Record the request and renew the lease for two timeouts from now. Then the request may leave.

        Raises:
            _LeaseLost: another worker has claimed the member.
        """
        until = claim.leased_until
        is_recorded = call is claim.call and claim.can_be_sent_now and not is_repeat
        # Repeat the renewal if the store was so slow that less than two timeouts are left.
        while not is_recorded or until - self._clock() < 2 * self._timeout:
            until = self._clock() + self.lease_for
            if not await self._queue.begin(claim, call, until=until):
                raise _LeaseLost
            is_recorded = True

    async def _ensure_lists(self, claim: Claim, call: Call) -> None:
        for pending in claim.pending:
            if pending.list_name in call.join and not pending.list_ready:
                await self._list_maker.ensure(pending.list_name)

    async def _send(self, claim: Claim, call: Call) -> None:
        try:
            await self._send_once(claim, call)
        except UnknownList:
            if not call.join:
                raise
            # A list was deleted in Sailthru: create it again and repeat the call once.
            for name in call.join:
                await self._list_maker.ensure(name, is_missing=True)
            await self._hold(claim, call, is_repeat=True)
            await self._send_once(claim, call)

    async def _send_once(self, claim: Claim, call: Call) -> None:
        await self._destination.update_member(
            claim.address, join=call.join, leave=call.leave, vars=call.vars, is_backfill=claim.is_backfill
        )

    async def _lists_of(self, claim: Claim) -> frozenset[str] | None:
        return await self._destination.lists_of(claim.address, is_backfill=claim.is_backfill)

    def _count_repeated_joins(self, claim: Claim, call: Call) -> None:
        for pending in claim.pending:
            if pending.list_name in call.join and pending.membership.confirmed is Confirmed.UNKNOWN:
                self._metrics.join_repeated(claim.account)

    def _count_latency(self, settlement: Settlement) -> None:
        now = self._clock()
        for pending in settlement.claim.pending:
            accepted_at = pending.membership.accepted_at
            if pending.export_id in settlement.confirmed and accepted_at is not None:
                self._metrics.confirmed(settlement.claim.account, now - accepted_at)
