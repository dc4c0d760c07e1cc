"""One delivery attempt for one member: its progress, and the settlement that follows from its outcome."""

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

# Reads may lag behind writes. Sailthru documents no limit; in every trial, reads were current after 0.3 s. A read that
# checks whether Sailthru applied an unanswered write waits this much longer.
# https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api/user.html
READS_LAG = timedelta(seconds=5)
# Random extra wait after a rate limit, so that not all members are retried in the first moment of the next window.
LIMIT_JITTER = timedelta(seconds=2)
WINDOW_OVER = "retry_window_over"
NOT_APPLIED = (NotSent, LimitReached, CredentialsRefused, Permanent, UnknownList)


@dataclass(slots=True)
class Attempt:
    """The progress of an attempt.

    Args:
        in_flight: the write that was sent and has no answer yet.
        confirmed: the confirmed states by export.
        dead: the codes of memberships that were given up, by export.
        lists: the lists that the member is on, if `was_read`; None if Sailthru has no profile.
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
        """The exports whose last write Sailthru may or may not have applied."""
        if self.in_flight is None or isinstance(self.error, NOT_APPLIED):
            return frozenset()
        return frozenset(self.in_flight.covers)

    @property
    def may_still_apply(self) -> bool:
        """True if Sailthru may still apply the last write, because no answer came."""
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
            spent_at: the time of the failure by the account's retry clock; None if the attempt does not count.
        """
        claim, error = attempt.claim, attempt.error
        if error is None:
            return Settlement(claim, "ok", confirmed=attempt.confirmed)
        dead = dict(attempt.dead)
        if isinstance(error, Permanent):
            dead |= {p.export_id: str(error.code) for p in claim.pending if p.export_id not in attempt.confirmed}
        elif spent_at is not None:
            dead |= {p.export_id: WINDOW_OVER for p in attempt.undecided if self._is_over(p, spent_at)}
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
        earliest_at = now + self._rest_after(attempt)
        if not is_spent:
            return earliest_at
        attempts = attempt.claim.attempts
        return max(self.policy.next_attempt_at(attempts=attempts, failed_at=now, draw=self.draw()), earliest_at)

    def _rest_after(self, attempt: Attempt) -> timedelta:
        """Return the shortest wait before the next call for the member.

        Sailthru may still apply a call without a readable answer, until one timeout after the connection was closed.
        """
        rest = READS_LAG if attempt.unknown else timedelta(0)
        return rest + self.timeout if isinstance(attempt.error, OutcomeUnknown) else rest

    def _is_over(self, pending: Pending, spent_at: datetime) -> bool:
        return self.policy.is_over(first_failed_at=pending.membership.first_failed_at, now=spent_at)
