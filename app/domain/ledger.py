"""The newest wins: how a membership change alters what is held.

A ledger holds what is known of the people that a batch of changes speaks of; `Ledger.apply` decides one change after
the other. It needs no database and no clock, so the whole rule can be tested in memory.
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
    """What became of a change: `stale` is a duplicate or older than what is held; `ignored` moves nobody we know."""

    ACCEPTED = "accepted"
    STALE = "stale"
    IGNORED = "ignored"


class Kept(NamedTuple):
    """What became of the changes of one webhook, in their order, and the accounts that now have somebody to call
    for.
    """

    verdicts: tuple[Verdict, ...]
    due_accounts: frozenset[str]


@dataclass(slots=True)
class Identity:
    """One Lytics user in one export.

    Args:
        last: the newest enter or exit of this user, under any address.
        address: the address this user holds on the list; None while out.
    """

    export_id: int
    lytics_id: str
    last: Move | None = None
    address: str | None = None


class Entry(NamedTuple):
    """One line of a person's timeline: what became of a change for one address. It holds no field value."""

    export_id: int
    address: str
    kind: Kind
    verdict: Verdict
    moved_at_ns: int | None
    clock_corrected: bool
    by_scan: bool


@dataclass(slots=True)
class Ledger:
    """Identities and memberships held in memory while a batch is decided.

    Args:
        at: when the batch was accepted.
        identities, memberships: what was loaded, by (export id, Lytics id) and (export id, address).
        called: the memberships whose member a worker holds.
        moved, changed: the keys of the identities and memberships that differ from what was loaded.
        tallies: how the counts of each export move.
        entries: what the timelines will say.
    """

    at: datetime
    identities: dict[tuple[int, str], Identity] = field(default_factory=dict)
    memberships: dict[tuple[int, str], Membership] = field(default_factory=dict)
    called: set[tuple[int, str]] = field(default_factory=set)
    moved: set[tuple[int, str]] = field(default_factory=set)
    changed: set[tuple[int, str]] = field(default_factory=set)
    tallies: dict[int, Tally] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def apply(self, change: MembershipChange) -> Verdict:
        """Decide one change, in any order of arrival."""
        identity = self._identity(change)
        change = self._in_order_of_arrival(change, identity)
        if change.by_scan:
            # Who is there already leaves no trace: a backfill finds most people so.
            return self._see(change, identity)
        verdict = self._restate(change, identity) if change.kind is Kind.CHANGE else self._move(change, identity)
        if verdict is Verdict.STALE:
            self._tally(change.export_id).stale += 1
        if verdict is not Verdict.ACCEPTED and change.address is not None:
            self._note(change, change.address, verdict)
        return verdict

    def _in_order_of_arrival(self, change: MembershipChange, identity: Identity | None) -> MembershipChange:
        """A time that is only that of the arrival is later than all that arrived before: our clock may have been set
        back since then, and would else let an old change win over this one.
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
            confirmed = [*(move.message_at_ns for move in moves), *(m.fields_at_ns or 0 for m in held)]
            message_at_ns = max([message_at_ns, *(at + 1 for at in confirmed)])
        return change._replace(moved_at_ns=moved_at_ns, message_at_ns=message_at_ns)

    def _move(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        if change.moved_at_ns is None:
            raise ValueError("An enter or exit needs the time it happened.")
        is_enter = change.kind is Kind.ENTER
        move = Move(change.moved_at_ns, change.message_at_ns, is_enter)
        held: str | None = None
        if identity is not None:
            if identity.last is not None and move <= identity.last:
                return self._fields_of_stale_enter(change) if is_enter else Verdict.STALE
            held = identity.address
            self._take_move(identity, move, change.address)
        if held is not None and held != change.address:
            self._leave_old_address(change, held, move)
        if change.address is None:
            return Verdict.ACCEPTED
        membership = self._membership(change.export_id, change.address)
        if membership.moved is not None and move <= membership.moved:
            # Somebody else moved this address later. The user's own newest move is kept all the same.
            return Verdict.STALE if identity is None else Verdict.ACCEPTED
        if is_enter:
            self._join(membership, change, move)
        else:
            self._leave(membership, change, move)
        return Verdict.ACCEPTED

    def _see(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        """A scan found somebody in the audience: an enter of whoever is not held as *in*; of others only the fields,
        and what Sailthru may not have. `ignored` if there is nothing to be told.
        """
        known = self.memberships.get((change.export_id, change.address or ""))
        before = 0 if known is None else known.revision
        if known is not None and known.desired and _is_of(known, change, identity):
            self._bind(known, identity)
            is_newer = known.fields_at_ns is None or change.message_at_ns > known.fields_at_ns
            if is_newer and digest(change.vars) != digest(known.vars):
                known.fields_at_ns, known.vars = change.message_at_ns, change.vars
                self._accept(known, change)
        else:
            self._move(change, identity)
            known = self.memberships.get((change.export_id, change.address or ""))
        if known is None or not known.desired:
            is_held = identity is not None and identity.address is not None
            return Verdict.IGNORED if is_held else Verdict.STALE
        is_right = known.is_pending or (known.dead_code is None and known.need is Need.NOTHING)
        if known.revision == before and not is_right:
            self._accept(known, change)
        return Verdict.ACCEPTED if known.revision > before else Verdict.IGNORED

    def _bind(self, known: Membership, identity: Identity | None) -> None:
        """Whoever was found by a scan that named no Lytics id belongs to the first one that names the address."""
        if identity is None or identity.last is not None or known.moved is None:
            return
        known.lytics_id = identity.lytics_id
        self._take_move(identity, known.moved, known.address)
        self.changed.add((known.export_id, known.address))

    def _restate(self, change: MembershipChange, identity: Identity | None) -> Verdict:
        """A `change` moves nobody in or out: it brings fields, or a new address, for somebody who is held as *in*."""
        if identity is not None and identity.last is not None:
            return self._restate_known(change, identity, identity.last)
        if change.address is None:
            return Verdict.IGNORED
        known = self.memberships.get((change.export_id, change.address))
        if known is None or not known.desired:
            return Verdict.IGNORED
        if known.lytics_id is None:
            self._bind(known, identity)
        return self._take_fields(known, change)

    def _restate_known(self, change: MembershipChange, identity: Identity, last: Move) -> Verdict:
        if identity.address is None:
            return Verdict.IGNORED
        held = self._membership(change.export_id, identity.address)
        if change.address is None or change.address == identity.address:
            return self._take_fields(held, change)
        if change.message_at_ns <= max(held.fields_at_ns or 0, last.message_at_ns):
            return Verdict.STALE
        # The same stay in the audience, told again under another address: the event time stays, so that an exit that
        # happened after the enter still wins, whenever this message was made.
        move = Move(last.moved_at_ns, change.message_at_ns, is_enter=True)
        self._leave_old_address(change, identity.address, move)
        self._take_move(identity, move, change.address)
        membership = self._membership(change.export_id, change.address)
        if membership.moved is None or move > membership.moved:
            self._join(membership, change, move)
        return Verdict.ACCEPTED

    def _fields_of_stale_enter(self, change: MembershipChange) -> Verdict:
        known = self.memberships.get((change.export_id, change.address or ""))
        if known is None or not known.desired or known.lytics_id != change.lytics_id:
            return Verdict.STALE
        return self._take_fields(known, change)

    def _take_fields(self, membership: Membership, change: MembershipChange) -> Verdict:
        if not membership.desired:
            return Verdict.IGNORED
        if membership.fields_at_ns is not None and change.message_at_ns <= membership.fields_at_ns:
            return Verdict.STALE
        membership.fields_at_ns, membership.vars = change.message_at_ns, change.vars
        self._accept(membership, change)
        return Verdict.ACCEPTED

    def _leave_old_address(self, change: MembershipChange, address: str, move: Move) -> None:
        """Take off the address that this Lytics user held, unless somebody else has entered it since."""
        old = self._membership(change.export_id, address)
        is_ours = old.lytics_id in (None, change.lytics_id)
        if old.desired and is_ours and (old.moved is None or move > old.moved):
            self._leave(old, change, move)

    def _take_move(self, identity: Identity, move: Move, address: str | None) -> None:
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
        # Nobody needs the fields of somebody who left: an exit carries no vars, and an enter brings its own.
        membership.fields_at_ns, membership.vars = None, {}
        self._accept(membership, change)

    def _accept(self, membership: Membership, change: MembershipChange) -> None:
        """Raise the revision; where that leaves nothing to say, all that was pending is settled at once. But not
        while a worker holds the member: it may still tell what it was claimed with.
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
        # How fresh a list is says nothing of backfills, which wait for live changes.
        membership.accepted_at = None if change.by_scan else self.at
        tally.pending += 1
        if membership.need is Need.NOTHING and key not in self.called:
            settle(membership, membership.revision, tally)
        self.changed.add(key)
        self._note(change, membership.address, Verdict.ACCEPTED)

    def _note(self, change: MembershipChange, address: str, verdict: Verdict) -> None:
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


def _is_of(known: Membership, change: MembershipChange, identity: Identity | None) -> bool:
    """Whether a membership is that of the Lytics user who was seen, as far as either is known."""
    if identity is not None and identity.last is not None:
        return identity.address == known.address
    return known.lytics_id is None or change.lytics_id is None or known.lytics_id == change.lytics_id
