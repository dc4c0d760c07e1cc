"""Verb 2, deliver: one call for one member: ensure its lists, tell all that is pending, settle."""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from app.domain.call import Call, Claim, Pending, plan
from app.domain.errors import (
    CallFailed,
    CredentialsRefused,
    LimitReached,
    NotSent,
    OutcomeUnknown,
    Permanent,
    ShareUsedUp,
    UnknownList,
)
from app.domain.membership import Confirmed
from app.domain.retry import RetryPolicy, window_ends_at
from app.domain.settlement import Settled, Settlement

# Reads may lag behind writes, by how much is not published (0.3 s later they were current whenever it was tried): a
# read that decides whether a lost call was carried out comes so much later than it could have been.
# https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html
READS_LAG = timedelta(seconds=5)
# Members that met a used-up limit do not all return in the window's first moment.
LIMIT_JITTER = timedelta(seconds=2)
WINDOW_OVER = "retry_window_over"
SURELY_NOT_CARRIED_OUT = (NotSent, LimitReached, CredentialsRefused, Permanent, UnknownList)


class Lists(Protocol):
    """One Sailthru account."""

    async def update_member(
        self,
        address: str,
        *,
        join: Iterable[str],
        leave: Iterable[str],
        vars: Mapping[str, object],  # noqa: A002 - Sailthru's own word
        is_backfill: bool,
    ) -> None:
        """One write for one person."""
        ...

    async def lists_of(self, address: str, *, is_backfill: bool) -> frozenset[str] | None:
        """The lists a person is on; None for a stranger."""
        ...


class Members(Protocol):
    """Where claims are held and attempts recorded."""

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Put a request on record and renew the lease; false if it was lost."""
        ...

    async def settle(self, settlement: Settlement) -> Settled:
        """Record how the attempt ended."""
        ...


class ListMaker(Protocol):
    """Who makes lists."""

    async def ensure(self, name: str, *, is_again: bool = False) -> None:
        """Make sure that a list exists; again, if Sailthru does not know it any more."""
        ...


class CircuitBreaker(Protocol):
    """Whether calls of the account may leave."""

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        """What the end of a call means for the account; for the member, when it failed by the account's running clock
        if that counts against its retry window, else None.
        """
        ...

    async def leave_probe(self) -> None:
        """The probe that was made asked for nothing, so that it told nothing: somebody else makes the next one at
        once.
        """
        ...


class Meter(Protocol):
    """What is counted."""

    def confirmed(self, account: str, latency: timedelta) -> None:
        """A change was told, this long after it was accepted."""
        ...

    def attempted(self, account: str, outcome: str) -> None:
        """An attempt ended."""
        ...

    def join_repeated(self, account: str) -> None:
        """A join is sent although an earlier one may have been carried out."""
        ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a delivery ended, for whoever paces the account.

    Args:
        error: what went wrong, None if all was told.
        due_at: when the member is to be called again, None if nothing is pending.
        may_go_on: Sailthru may still carry out a write that was given up, until a timeout after that.
    """

    error: CallFailed | None
    due_at: datetime | None
    may_go_on: bool = False


class Deliverer:
    """Delivers for one account.

    Args:
        timeout: how long Sailthru may take for one request.
        clock, draw: the time (aware, UTC) and the dice (0 to 1).
    """

    def __init__(
        self,
        lists: Lists,
        members: Members,
        list_maker: ListMaker,
        meter: Meter,
        gate: CircuitBreaker,
        *,
        policy: RetryPolicy,
        timeout: timedelta,
        clock: Callable[[], datetime],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._lists = lists
        self._members = members
        self._list_maker = list_maker
        self._meter = meter
        self._gate = gate
        self._policy = policy
        self._timeout = timeout
        self._clock = clock
        self._draw = draw

    @property
    def lease_for(self) -> timedelta:
        """How long a claim is held: two timeouts from the moment its request leaves, so that nobody else calls for the
        member while Sailthru may still carry out a call that we gave up; and some seconds more, since a request leaves
        a moment after its claim, and what comes after it may be a read.
        """
        return 2 * self._timeout + READS_LAG

    @property
    def timeout(self) -> timedelta:
        """How long Sailthru may take for one request: for as long after we hung up it may still carry it out."""
        return self._timeout

    async def deliver(self, claim: Claim, *, is_probe: bool = False) -> Delivered:
        """Bring one claimed member up to date, with as few requests as can be.

        Args:
            is_probe: the account is paused, and this call finds out whether Sailthru answers again.

        Raises:
            StoreUnavailable: the outcome could not be recorded. The lease ends by itself, and what was told of the
                lists stays unknown until a read.
        """
        attempt = _Attempt(claim)
        try:
            await self._carry_out(attempt)
        except _LeaseLost:
            if is_probe:
                await self._gate.leave_probe()
            return Delivered(None, None)
        except CallFailed as failed:
            attempt.error = failed
        # Where there was nothing to ask for, nothing was heard of how the account stands.
        spent_at: datetime | None = None
        if claim.call.is_read or claim.call.is_write:
            spent_at = await self._gate.judge(claim.member_id, attempt.error, is_probe=is_probe)
        elif is_probe:
            await self._gate.leave_probe()
        settlement = self._settlement(attempt, spent_at)
        self._meter.attempted(claim.account, settlement.outcome)
        settled = await self._members.settle(settlement)
        if settled.is_ours:
            self._count_latency(settlement)
        return Delivered(attempt.error, settled.due_at, attempt.may_go_on)

    async def _carry_out(self, attempt: "_Attempt") -> None:
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
            # Nothing of the call was carried out.
            attempt.tried = None
            await self._write_one_by_one(attempt)

    async def _write_one_by_one(self, attempt: "_Attempt") -> None:
        """Each list in a call of its own, so that only what fails alone is given up."""
        refused: Permanent | None = None
        unknown: UnknownList | None = None
        for one in attempt.claim.pending:
            call = plan([one], attempt.lists, was_read=attempt.was_read)
            try:
                await self._write_one(attempt, one, call)
            except Permanent as error:
                refused, attempt.tried = error, None
                attempt.dead[one.export_id] = str(error.code)
            except UnknownList as error:
                unknown, attempt.tried = error, None
        # What waits for its list comes again, whatever became of the others.
        ended = unknown or refused
        if ended is not None:
            raise ended

    async def _write_one(self, attempt: "_Attempt", one: Pending, call: Call) -> None:
        try:
            await self._write(attempt, call)
        except UnknownList:
            if not call.leave or not await self._is_off(attempt.claim, one.list_name):
                raise
            attempt.tried = None
            attempt.confirmed |= call.covers

    async def _is_off(self, claim: Claim, list_name: str) -> bool:
        """Nobody is on a list that does not exist. But who would be left on one that does exist, because of an answer
        that was wrong, would stay there for good: so Sailthru is asked.
        """
        await self._hold(claim, Call(is_read=True))
        lists = await self._lists_of(claim)
        return lists is None or list_name not in lists

    async def _write(self, attempt: "_Attempt", call: Call) -> None:
        if call.is_write:
            await self._ensure(attempt.claim, call)
            await self._hold(attempt.claim, call)
            attempt.tried = call
            try:
                await self._tell(attempt.claim, call)
            except CallFailed as error:
                if not isinstance(error, SURELY_NOT_CARRIED_OUT):
                    self._count_repeated_joins(attempt.claim, call)
                raise
            self._count_repeated_joins(attempt.claim, call)
            attempt.tried = None
        attempt.confirmed |= call.covers

    async def _hold(self, claim: Claim, call: Call, *, is_anew: bool = False) -> None:
        """Make sure that the member is ours for two timeouts from now, and the request on record: then it may leave."""
        until = claim.leased_until
        is_recorded = call is claim.call and claim.leaves_at_once and not is_anew
        # Again where a store that took its time has used up what was to be held.
        while not is_recorded or until - self._clock() < 2 * self._timeout:
            until = self._clock() + self.lease_for
            if not await self._members.begin(claim, call, until=until):
                raise _LeaseLost
            is_recorded = True

    async def _ensure(self, claim: Claim, call: Call) -> None:
        for one in claim.pending:
            if one.list_name in call.join and not one.list_ready:
                await self._list_maker.ensure(one.list_name)

    async def _tell(self, claim: Claim, call: Call) -> None:
        try:
            await self._tell_once(claim, call)
        except UnknownList:
            if not call.join:
                raise
            # Somebody deleted a list: make it again, and repeat once.
            for name in call.join:
                await self._list_maker.ensure(name, is_again=True)
            await self._hold(claim, call, is_anew=True)
            await self._tell_once(claim, call)

    async def _tell_once(self, claim: Claim, call: Call) -> None:
        await self._lists.update_member(
            claim.address, join=call.join, leave=call.leave, vars=call.vars, is_backfill=claim.is_backfill
        )

    async def _lists_of(self, claim: Claim) -> frozenset[str] | None:
        return await self._lists.lists_of(claim.address, is_backfill=claim.is_backfill)

    def _settlement(self, attempt: "_Attempt", spent_at: datetime | None) -> Settlement:
        claim, error, now = attempt.claim, attempt.error, self._clock()
        if error is None:
            return Settlement(claim, "ok", confirmed=attempt.confirmed)
        dead = dict(attempt.dead)
        retry_at: datetime | None = None
        if isinstance(error, Permanent):
            dead |= {one.export_id: str(error.code) for one in claim.pending if one.export_id not in attempt.confirmed}
        elif isinstance(error, ShareUsedUp):
            retry_at = max(error.resets_at or now, now)
        elif isinstance(error, LimitReached):
            retry_at = window_ends_at(error.resets_at, now) + self._draw() * LIMIT_JITTER
        elif isinstance(error, CredentialsRefused):
            retry_at = now
        else:
            retry_at = now + self._rest_after(attempt)
            if spent_at is not None:
                next_at = self._policy.next_attempt_at(attempts=claim.attempts, failed_at=now, draw=self._draw())
                retry_at = max(next_at, retry_at)
                dead |= {one.export_id: WINDOW_OVER for one in attempt.waiting if self._is_over(one, spent_at)}
        return Settlement(
            claim,
            str(error.code),
            confirmed=attempt.confirmed,
            unknown=attempt.unknown,
            dead=dead,
            retry_at=retry_at,
            spent_at=spent_at,
        )

    def _rest_after(self, attempt: "_Attempt") -> timedelta:
        """How long the member rests at the least: a call without a readable answer may still be carried out, a timeout
        after we hung up at the latest.
        """
        rest = READS_LAG if attempt.unknown else timedelta(0)
        return rest + self._timeout if isinstance(attempt.error, OutcomeUnknown) else rest

    def _is_over(self, one: Pending, spent_at: datetime) -> bool:
        return self._policy.is_over(first_failed_at=one.membership.first_failed_at, now=spent_at)

    def _count_repeated_joins(self, claim: Claim, call: Call) -> None:
        for one in claim.pending:
            if one.list_name in call.join and one.membership.confirmed is Confirmed.UNKNOWN:
                self._meter.join_repeated(claim.account)

    def _count_latency(self, settlement: Settlement) -> None:
        now = self._clock()
        for one in settlement.claim.pending:
            if one.export_id in settlement.confirmed and one.membership.accepted_at is not None:
                self._meter.confirmed(settlement.claim.account, now - one.membership.accepted_at)


class _LeaseLost(Exception):
    """Somebody else calls for this member now; nothing more may leave."""


@dataclass(slots=True)
class _Attempt:
    """How far a delivery has come.

    Args:
        tried: the write that left and has no answer yet.
        told, dead: what is settled, by export.
        lists: those the person is on, if that was asked.
    """

    claim: Claim
    tried: Call | None = None
    error: CallFailed | None = None
    confirmed: dict[int, Confirmed] = field(default_factory=dict)
    dead: dict[int, str] = field(default_factory=dict)
    lists: frozenset[str] | None = None
    was_read: bool = False

    @property
    def waiting(self) -> list[Pending]:
        """What is neither told nor given up."""
        return [p for p in self.claim.pending if p.export_id not in self.confirmed and p.export_id not in self.dead]

    @property
    def unknown(self) -> frozenset[int]:
        """The exports for which the last write may have been carried out."""
        if self.tried is None or isinstance(self.error, SURELY_NOT_CARRIED_OUT):
            return frozenset()
        return frozenset(self.tried.covers)

    @property
    def may_go_on(self) -> bool:
        """Whether the last write may be carried out yet: nobody answered it."""
        return bool(self.unknown) and isinstance(self.error, OutcomeUnknown)
