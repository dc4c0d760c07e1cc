"""Decides which membership change wins: the newest one. It needs no database and no clock.

A `Ledger` holds the users and memberships that a batch of changes may touch. `Ledger.apply` decides one change:

| change | stored state | result |
|---|---|---|
| enter or exit, not newer than the user's last move | any | stale; a late enter may still bring newer fields |
| enter, newer | the user is out | the address joins |
| enter, newer | the user is in under another address | the address joins, the old address leaves |
| exit, newer | the user is in | the stored address leaves, even if the exit names another one |
| enter or exit, newer | another user moved this address later | the user's move is stored, the membership stays |
| change, newer | the user is in under this address | the fields are stored |
| change, newer | the user is in under another address | the address joins, the old address leaves |
| change, not newer | the user is in | stale |
| change | the user is out or unknown | ignored |
| found by a scan | the address is in | newer fields are stored; otherwise ignored if all is confirmed |
| found by a scan | the address is out | like an enter at the time of the scan |

Moves are ordered by event time, then message time, then exit before enter. Fields are ordered by message time.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from app.domain.change import Kind, MembershipChange, Move
from app.domain.counts import Tally
from app.domain.membership import Membership, Need, digest
from app.domain.settlement import settle


class Verdict(StrEnum):
    """The result of a change.

    `stale`: a duplicate, or older than the stored state. `ignored`: the change needs no update.
    """

    ACCEPTED = "accepted"
    STALE = "stale"
    IGNORED = "ignored"


class BatchResult(NamedTuple):
    """The result of a batch of changes: a verdict for each, in order, and the accounts that now have due members."""

    verdicts: tuple[Verdict, ...]
    due_accounts: frozenset[str]


@dataclass(slots=True)
class Identity:
    """One Lytics user in one export.

    Args:
        last: the newest enter or exit of this user, under any address.
        address: the address that this user has on the list; None while out.
    """

    export_id: int
    lytics_id: str
    last: Move | None = None
    address: str | None = None


class Entry(NamedTuple):
    """One line of a member's timeline: a change for one address and its verdict. It holds no field value."""

    export_id: int
    address: str
    kind: Kind
    verdict: Verdict
    moved_at_ns: int | None
    clock_corrected: bool
    by_scan: bool


@dataclass(slots=True)
class Ledger:
    """Identities and memberships in memory, while a batch of changes is decided.

    Args:
        at: when the batch was accepted.
        identities, memberships: the loaded rows, by (export id, Lytics id) and (export id, address).
        in_flight: the keys of the memberships whose member a worker has claimed.
        moved, changed: the keys of the identities and memberships that differ from the loaded rows.
        tallies: how the counts of each export change.
        entries: the new lines of the timelines.
    """

    at: datetime
    identities: dict[tuple[int, str], Identity] = field(default_factory=dict)
    memberships: dict[tuple[int, str], Membership] = field(default_factory=dict)
    in_flight: set[tuple[int, str]] = field(default_factory=set)
    moved: set[tuple[int, str]] = field(default_factory=set)
    changed: set[tuple[int, str]] = field(default_factory=set)
    tallies: dict[int, Tally] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def apply(self, change: MembershipChange) -> Verdict:
        """Apply one change and return its verdict. Changes may arrive in any order."""
        identity = self._identity(change)
        change = self._after_earlier_arrivals(change, identity)
        if change.by_scan:
            # A scan finds most members unchanged, so stale and ignored changes add no lines to timelines.
            return self._apply_scan(change, identity)
        is_change = change.kind is Kind.CHANGE
        verdict = self._apply_change(change, identity) if is_change else self._apply_move(change, identity)
        if verdict is Verdict.STALE:
            self._tally(change.export_id).stale += 1
        if verdict is not Verdict.ACCEPTED and change.address is not None:
            self._record(change, change.address, verdict)
        return verdict

    def _after_earlier_arrivals(self, change: MembershipChange, identity: Identity | None) -> MembershipChange:
        """Return the change with arrival times that are later than all stored times.

        Otherwise an older change could win after our clock was set back.
        """
        if not (change.moved_on_arrival or change.message_on_arrival):
            return change
        addresses = {change.address, None if identity is None else identity.address}
        held = [m for a in addresses if a is not None and (m := self.memberships.get((change.export_id, a)))]
        moves = [m.moved for m in held if m.moved is not None]
        if identity is not None and identity.last is not None:
            moves.append(identity.last)
        moved_at_ns, message_at_ns = change.moved_at_ns, change.message_at_ns
        if change.moved_on_arrival and moved_at_ns is not None:
            moved_at_ns = max([moved_at_ns, *(move.moved_at_ns + 1 for move in moves)])
        if change.message_on_arrival:
            messages = [*(move.message_at_ns for move in moves), *(m.fields_at_ns or 0 for m in held)]
            message_at_ns = max([message_at_ns, *(at + 1 for at in messages)])
        return change._replace(moved_at_ns=moved_at_ns, message_at_ns=message_at_ns)

    def _apply_move(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        if change.moved_at_ns is None:
            raise ValueError("An enter or exit needs the time it happened.")
        is_enter = change.kind is Kind.ENTER
        move = Move(change.moved_at_ns, change.message_at_ns, is_enter)
        held: str | None = None
        if identity is not None:
            if identity.last is not None and move <= identity.last:
                return self._update_fields_of_late_enter(change) if is_enter else Verdict.STALE
            held = identity.address
            self._set_last_move(identity, move, change.address)
        if held is not None and held != change.address:
            self._leave_old_address(change, held, move)
        if change.address is None:
            return Verdict.ACCEPTED
        membership = self._membership(change.export_id, change.address)
        if membership.moved is not None and move <= membership.moved:
            # Another user moved this address later. The newest move of this user is stored anyway.
            return Verdict.STALE if identity is None else Verdict.ACCEPTED
        if is_enter:
            self._join(membership, change, move)
        else:
            self._leave(membership, change, move)
        return Verdict.ACCEPTED

    def _apply_scan(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        """Return `ignored` if all is confirmed already, and `stale` if a newer change keeps the member out."""
        held = self.memberships.get((change.export_id, change.address or ""))
        revision_before = 0 if held is None else held.revision
        if held is not None and held.desired and _is_same_user(held, change, identity):
            self._assign_user(held, identity)
            self._update_fields_of_scan(held, change)
        else:
            self._apply_move(change, identity)
            held = self.memberships.get((change.export_id, change.address or ""))
        if held is None or not held.desired:
            is_in_elsewhere = identity is not None and identity.address is not None
            return Verdict.IGNORED if is_in_elsewhere else Verdict.STALE
        is_confirmed = held.is_pending or (held.dead_code is None and held.need is Need.NOTHING)
        if held.revision == revision_before and not is_confirmed:
            self._accept(held, change)
        return Verdict.ACCEPTED if held.revision > revision_before else Verdict.IGNORED

    def _update_fields_of_scan(self, held: Membership, change: MembershipChange) -> None:
        is_newer = held.fields_at_ns is None or change.message_at_ns > held.fields_at_ns
        if is_newer and digest(change.vars) != digest(held.vars):
            held.fields_at_ns, held.vars = change.message_at_ns, change.vars
            self._accept(held, change)

    def _assign_user(self, held: Membership, identity: Identity | None) -> None:
        """Assign a membership without a Lytics id to the first user that is found with its address."""
        if identity is None or identity.last is not None or held.moved is None:
            return
        held.lytics_id = identity.lytics_id
        self._set_last_move(identity, held.moved, held.address)
        self.changed.add((held.export_id, held.address))

    def _apply_change(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        if identity is not None and identity.last is not None:
            return self._apply_change_of_user(change, identity, identity.last)
        if change.address is None:
            return Verdict.IGNORED
        held = self.memberships.get((change.export_id, change.address))
        if held is None or not held.desired:
            return Verdict.IGNORED
        if held.lytics_id is None:
            self._assign_user(held, identity)
        return self._update_fields(held, change)

    def _apply_change_of_user(self, change: MembershipChange, identity: Identity, last: Move) -> Verdict:
        if identity.address is None:
            return Verdict.IGNORED
        held = self._membership(change.export_id, identity.address)
        if change.address is None or change.address == identity.address:
            return self._update_fields(held, change)
        if change.message_at_ns <= max(held.fields_at_ns or 0, last.message_at_ns):
            return Verdict.STALE
        # The user stays in the audience under another address. The event time stays too, so that an exit after the
        # original enter still wins.
        move = Move(last.moved_at_ns, change.message_at_ns, is_enter=True)
        self._leave_old_address(change, identity.address, move)
        self._set_last_move(identity, move, change.address)
        membership = self._membership(change.export_id, change.address)
        if membership.moved is None or move > membership.moved:
            self._join(membership, change, move)
        return Verdict.ACCEPTED

    def _update_fields_of_late_enter(self, change: MembershipChange) -> Verdict:
        held = self.memberships.get((change.export_id, change.address or ""))
        if held is None or not held.desired or held.lytics_id != change.lytics_id:
            return Verdict.STALE
        return self._update_fields(held, change)

    def _update_fields(self, membership: Membership, change: MembershipChange) -> Verdict:
        if not membership.desired:
            return Verdict.IGNORED
        if membership.fields_at_ns is not None and change.message_at_ns <= membership.fields_at_ns:
            return Verdict.STALE
        membership.fields_at_ns, membership.vars = change.message_at_ns, change.vars
        self._accept(membership, change)
        return Verdict.ACCEPTED

    def _leave_old_address(self, change: MembershipChange, address: str, move: Move) -> None:
        """Remove the user's old address from the list, unless another user has entered it since."""
        old_membership = self._membership(change.export_id, address)
        is_ours = old_membership.lytics_id in (None, change.lytics_id)
        if old_membership.desired and is_ours and (old_membership.moved is None or move > old_membership.moved):
            self._leave(old_membership, change, move)

    def _set_last_move(self, identity: Identity, move: Move, address: str | None) -> None:
        identity.last, identity.address = move, address if move.is_enter else None
        self.moved.add((identity.export_id, identity.lytics_id))

    def _join(self, membership: Membership, change: MembershipChange, move: Move) -> None:
        self._tally(change.export_id).members += not membership.desired
        membership.desired, membership.moved = True, move
        membership.lytics_id = change.lytics_id or membership.lytics_id
        if membership.fields_at_ns is None or change.message_at_ns > membership.fields_at_ns:
            membership.fields_at_ns, membership.vars = change.message_at_ns, change.vars
        self._accept(membership, change)

    def _leave(self, membership: Membership, change: MembershipChange, move: Move) -> None:
        self._tally(membership.export_id).members -= membership.desired
        membership.desired, membership.moved = False, move._replace(is_enter=False)
        # An exit carries no vars, and the next enter brings new ones.
        membership.fields_at_ns, membership.vars = None, {}
        self._accept(membership, change)

    def _accept(self, membership: Membership, change: MembershipChange) -> None:
        """Raise the revision. If the membership then needs no call, settle everything pending.

        A membership in flight is not settled here, because its worker may still send the claimed state.
        """
        key = membership.export_id, membership.address
        tally = self._tally(membership.export_id)
        tally.accepted += 1
        if membership.dead_code is not None:
            tally.dead -= 1
            tally.superseded += 1
            membership.dead_code = membership.dead_at = None
        membership.revision += 1
        membership.first_failed_at = None
        # Freshness is measured for live changes only, because backfills wait behind them.
        membership.accepted_at = None if change.by_scan else self.at
        tally.pending += 1
        if membership.need is Need.NOTHING and key not in self.in_flight:
            settle(membership, membership.revision, tally)
        self.changed.add(key)
        self._record(change, membership.address, Verdict.ACCEPTED)

    def _record(self, change: MembershipChange, address: str, verdict: Verdict) -> None:
        self.entries.append(
            Entry(
                change.export_id,
                address,
                change.kind,
                verdict,
                change.moved_at_ns,
                clock_corrected=change.clock_corrected,
                by_scan=change.by_scan,
            )
        )

    def _identity(self, change: MembershipChange) -> Identity | None:
        if change.lytics_id is None:
            return None
        key = (change.export_id, change.lytics_id)
        identity = self.identities.get(key)
        if identity is None:
            identity = self.identities[key] = Identity(*key)
        return identity

    def _membership(self, export_id: int, address: str) -> Membership:
        key = (export_id, address)
        membership = self.memberships.get(key)
        if membership is None:
            membership = self.memberships[key] = Membership(export_id=export_id, address=address)
        return membership

    def _tally(self, export_id: int) -> Tally:
        tally = self.tallies.get(export_id)
        if tally is None:
            tally = self.tallies[export_id] = Tally()
        return tally


def _is_same_user(held: Membership, change: MembershipChange, identity: Identity | None) -> bool:
    """Return whether a membership may belong to the user that a scan found. Without Lytics ids the address decides."""
    if identity is not None and identity.last is not None:
        return identity.address == held.address
    return held.lytics_id is None or change.lytics_id is None or held.lytics_id == change.lytics_id
