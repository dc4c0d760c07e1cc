"""One attempt for one member: how far it came, and what its outcome means for the member."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.domain.call import Call, Claim, Pending
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
from app.domain.rate_limit.window import window_ends_at
from app.domain.retry import RetryPolicy
from app.domain.settlement import Settlement

# Reads may lag behind writes. Sailthru does not say by how much; after 0.3 s they were current in every trial. A read
# that finds out whether a lost call was carried out waits this much longer than it would have to.
# https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html
READS_LAG = timedelta(seconds=5)
# Spreads the members that met a used-up limit, so that they do not all return in the window's first moment.
LIMIT_JITTER = timedelta(seconds=2)
WINDOW_OVER = "retry_window_over"
SURELY_NOT_CARRIED_OUT = (NotSent, LimitReached, CredentialsRefused, Permanent, UnknownList)


@dataclass(slots=True)
class Attempt:
    """How far an attempt came.

    Args:
        in_flight: the write that was sent and has no answer yet.
        confirmed, dead: what is decided, by export.
        lists: the lists that the member is on, if `was_read`; None for an unknown profile.
    """

    claim: Claim
    in_flight: Call | None = None
    error: CallFailed | None = None
    confirmed: dict[int, Confirmed] = field(default_factory=dict)
    dead: dict[int, str] = field(default_factory=dict)
    lists: frozenset[str] | None = None
    was_read: bool = False

    @property
    def undecided(self) -> list[Pending]:
        """The memberships that are neither confirmed nor dead."""
        return [p for p in self.claim.pending if p.export_id not in self.confirmed and p.export_id not in self.dead]

    @property
    def unknown(self) -> frozenset[int]:
        """The exports whose last write may or may not have been carried out."""
        if self.in_flight is None or isinstance(self.error, SURELY_NOT_CARRIED_OUT):
            return frozenset()
        return frozenset(self.in_flight.covers)

    @property
    def may_go_on(self) -> bool:
        """True if Sailthru may still carry out the last write, because no answer came."""
        return bool(self.unknown) and isinstance(self.error, OutcomeUnknown)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Turns the end of an attempt into its settlement.

    Args:
        timeout: how long Sailthru may take for one request.
        draw: returns a random number from 0 to 1.
    """

    policy: RetryPolicy
    timeout: timedelta
    draw: Callable[[], float]

    def settlement(self, attempt: Attempt, *, spent_at: datetime | None, now: datetime) -> Settlement:
        """Decide what is confirmed, unknown or dead, and when to call again.

        Args:
            spent_at: when the attempt failed by the account's retry clock; None if no attempt is spent.
        """
        claim, error = attempt.claim, attempt.error
        if error is None:
            return Settlement(claim, "ok", confirmed=attempt.confirmed)
        dead = dict(attempt.dead)
        if isinstance(error, Permanent):
            dead |= {one.export_id: str(error.code) for one in claim.pending if one.export_id not in attempt.confirmed}
        elif spent_at is not None:
            dead |= {one.export_id: WINDOW_OVER for one in attempt.undecided if self._is_over(one, spent_at)}
        return Settlement(
            claim,
            str(error.code),
            confirmed=attempt.confirmed,
            unknown=attempt.unknown,
            dead=dead,
            retry_at=self._retry_at(attempt, error, is_spent=spent_at is not None, now=now),
            spent_at=spent_at,
        )

    def _retry_at(self, attempt: Attempt, error: CallFailed, *, is_spent: bool, now: datetime) -> datetime | None:
        if isinstance(error, Permanent):
            return None
        if isinstance(error, ShareUsedUp):
            return max(error.resets_at or now, now)
        if isinstance(error, LimitReached):
            return window_ends_at(error.resets_at, now) + self.draw() * LIMIT_JITTER
        if isinstance(error, CredentialsRefused):
            return now
        rested_at = now + self._rest_after(attempt)
        if not is_spent:
            return rested_at
        attempts = attempt.claim.attempts
        return max(self.policy.next_attempt_at(attempts=attempts, failed_at=now, draw=self.draw()), rested_at)

    def _rest_after(self, attempt: Attempt) -> timedelta:
        """How long the member rests at least.

        Sailthru may still carry out a call without a readable answer, until one timeout after we hung up.
        """
        rest = READS_LAG if attempt.unknown else timedelta(0)
        return rest + self.timeout if isinstance(attempt.error, OutcomeUnknown) else rest

    def _is_over(self, one: Pending, spent_at: datetime) -> bool:
        return self.policy.is_over(first_failed_at=one.membership.first_failed_at, now=spent_at)
