"""Settling: how the end of an attempt changes the confirmed state of the claimed memberships."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.call import Claim
from app.domain.counts import Tally
from app.domain.freshness import bucket_of
from app.domain.membership import Confirmation, Confirmed, Membership, digest


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt, to be recorded against the claimed revisions.

    An export in none of `confirmed`, `unknown` and `dead` was not part of the call and keeps its confirmed state.

    Args:
        confirmed: the settled exports, each with the state that Sailthru acknowledged.
        unknown: the exports whose call may or may not have been carried out.
        dead: the exports whose change becomes a dead letter, each with its code.
        outcome: a fixed word for the timeline and the metrics: `ok`, an error number, or a word of ours.
        retry_at: when to call again for pending changes, including newer ones; None to call at once.
        spent_at: when the attempt failed, by the account's retry clock; None if it does not count against the retry
            window.
    """

    claim: Claim
    outcome: str
    confirmed: Mapping[int, Confirmed] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    dead: Mapping[int, str] = field(default_factory=dict)
    retry_at: datetime | None = None
    spent_at: datetime | None = None

    @property
    def is_whole(self) -> bool:
        """True if every claimed membership is confirmed or a dead letter."""
        return all(p.export_id in self.confirmed or p.export_id in self.dead for p in self.claim.pending)


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of recording a settlement.

    Args:
        is_ours: False if the lease was lost, so that nothing was recorded.
        due_at: when the member is called again; None if nothing is pending any more.
    """

    is_ours: bool
    due_at: datetime | None = None


def settle(confirmation: Confirmation, revision: int, tally: Tally) -> None:
    """Count the revisions up to this one as settled: the newest as delivered, the earlier ones as superseded."""
    settled = revision - confirmation.confirmed_revision
    if settled <= 0:
        return
    confirmation.confirmed_revision = revision
    tally.pending -= settled
    tally.delivered += 1
    tally.superseded += settled - 1


def settle_attempt(settlement: Settlement, confirmation: Confirmation, at: datetime, tally: Tally) -> None:
    """Apply the end of an attempt to one of the claimed memberships.

    `confirmation` is the current row, and the settlement holds the claimed one. A change during the call has raised the
    revision and stays pending.
    """
    export_id = confirmation.export_id
    claimed = next(p.membership for p in settlement.claim.pending if p.export_id == export_id)
    confirmed = settlement.confirmed.get(export_id)
    if confirmed is not None:
        _confirm(confirmation, confirmed, claimed, at, tally)
        return
    if export_id not in settlement.unknown:
        confirmation.confirmed, confirmation.confirmed_vars = claimed.confirmed, claimed.confirmed_vars
    is_newest = confirmation.revision == claimed.revision
    if is_newest and settlement.spent_at is not None:
        confirmation.first_failed_at = confirmation.first_failed_at or settlement.spent_at
    code = settlement.dead.get(export_id)
    if code is not None:
        _give_up(confirmation, claimed.revision, tally, code if is_newest else None, at)


def _confirm(confirmation: Confirmation, confirmed: Confirmed, claimed: Membership, at: datetime, tally: Tally) -> None:
    confirmation.confirmed, confirmation.confirmed_at, confirmation.first_failed_at = confirmed, at, None
    confirmation.confirmed_vars = digest(claimed.vars) if claimed.vars else None
    if claimed.accepted_at is not None and claimed.revision > confirmation.confirmed_revision:
        tally.confirmed_after[bucket_of(at - claimed.accepted_at)] += 1
    settle(confirmation, claimed.revision, tally)


def _give_up(confirmation: Confirmation, revision: int, tally: Tally, code: str | None, at: datetime) -> None:
    """Make the claimed revision a dead letter. Without a code, a newer change has superseded it."""
    ended = revision - confirmation.confirmed_revision
    if ended <= 0:
        return
    confirmation.confirmed_revision, confirmation.dead_code = revision, code
    confirmation.dead_at = None if code is None else at
    tally.pending -= ended
    tally.dead += code is not None
    tally.superseded += ended - (code is not None)


def cancel(membership: Membership, tally: Tally) -> None:
    """Cancel the pending changes of a stopped export: the desired state becomes the confirmed one.

    If the two differed, the newest move is deleted too. A later backfill then adds every member that is still in the
    audience, regardless of event times.
    """
    cancelled = membership.revision - membership.confirmed_revision
    membership.confirmed_revision, membership.first_failed_at = membership.revision, None
    tally.pending -= cancelled
    tally.cancelled += cancelled
    is_in = membership.confirmed is Confirmed.IN
    if membership.desired is not is_in:
        tally.members += is_in - membership.desired
        membership.desired = is_in
        membership.moved = membership.fields_at_ns = None
        membership.vars = {}
