"""Keeps changes: what a batch touches is locked and read, decided in a ledger, and written back in one transaction."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, literal_column, select, update

from app.domain.change import Kind, MembershipChange, Move
from app.domain.erasure import Digests, take_back
from app.domain.export import ExportState
from app.domain.ledger import Entry, Identity, Kept, Ledger, Verdict
from app.domain.membership import Membership
from app.store.database.dialect import lock_table
from app.store.database.prepared import Prepared
from app.store.database.statements import among, insert, insert_or_nothing
from app.store.database.transactions import Overtaken
from app.store.exports.versions import version_of_exports
from app.store.history.journal import APPEND, Line
from app.store.members.admission import admit
from app.store.members.rows import SAVE_MEMBERSHIPS, membership_of, move_of, rows_of, save_tallies
from app.store.schema import BACKFILL, LIVE, exports, identities, members, memberships

_EXPORTS = Prepared(
    select(exports.c.id, exports.c.account, exports.c.state, exports.c.merged_into).where(among(exports.c.id, "ids")),
    "ids",
)
_IDENTITIES = Prepared(
    select(
        identities.c.lytics_id,
        identities.c.moved_at_ns,
        identities.c.moved_message_at_ns,
        identities.c.is_enter,
        identities.c.member_id,
    )
    .where(identities.c.export_id == bindparam("export_id"), among(identities.c.lytics_id, "lytics_ids"))
    .order_by(identities.c.lytics_id)
    .with_for_update(),
    "export_id",
    "lytics_ids",
)
_ADDRESSES = Prepared(select(members.c.id, members.c.address).where(among(members.c.id, "ids")), "ids")
_MAKE_IDENTITIES = Prepared(lambda connection: insert_or_nothing(connection, identities), *identities.columns.keys())
_MOVE_IDENTITIES = Prepared(
    update(identities)
    .where(identities.c.export_id == bindparam("b_export"), identities.c.lytics_id == bindparam("b_lytics_id"))
    .values(
        moved_at_ns=bindparam("b_moved"),
        moved_message_at_ns=bindparam("b_message"),
        is_enter=bindparam("b_is_enter"),
        member_id=bindparam("b_member"),
    ),
    "b_export",
    "b_lytics_id",
    "b_moved",
    "b_message",
    "b_is_enter",
    "b_member",
)
_MEMBERS = Prepared(
    select(members.c.id, members.c.account, members.c.address, members.c.due_at, members.c.lease, members.c.priority)
    .where(among(members.c.account, "accounts"), among(members.c.address, "addresses"))
    .order_by(members.c.id)
    .with_for_update(),
    "accounts",
    "addresses",
)
_MAKE_MEMBERS = Prepared(
    lambda connection: (
        insert(connection, members)
        .on_conflict_do_nothing()
        .returning(members.c.id, members.c.account, members.c.address)
    ),
    "account",
    "address",
    "due_at",
    "priority",
)
_MAKE_DUE = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=bindparam("b_due"), priority=bindparam("b_priority"), attempts=literal_column("0")),
    "b_due",
    "b_priority",
    "b_id",
)
# A live change of somebody whom a backfill has put in line goes before all of that line.
_MAKE_LIVE = Prepared(
    update(members).where(members.c.id == bindparam("b_id")).values(priority=literal_column(str(LIVE))), "b_id"
)
_MEMBERSHIPS = Prepared(
    select(memberships).where(
        among(memberships.c.member_id, "member_ids"), among(memberships.c.export_id, "export_ids")
    ),
    "member_ids",
    "export_ids",
)


class Webhook(NamedTuple):
    """The changes of one webhook.

    Args:
        version: of the exports that they were made for; None where they are sure to be the right ones.
    """

    changes: Sequence[MembershipChange]
    version: int | None = None


def keep_current(
    connection: Connection, webhooks: Sequence[Webhook], now: datetime, digests: Digests | None
) -> list[Kept | None]:
    """Keep the changes of several webhooks; None for those that were made for exports which another replica has changed
    since.
    """
    # Nobody changes an export from here on.
    lock_table(connection, exports, is_exclusive=False)
    version = version_of_exports(connection)
    current = [one.changes for one in webhooks if one.version in {None, version}]
    kept = iter(keep(connection, current, now, digests))
    return [next(kept) if one.version in {None, version} else None for one in webhooks]


def keep(
    connection: Connection,
    webhooks: Sequence[Sequence[MembershipChange]],
    now: datetime,
    digests: Digests | None,
) -> list[Kept]:
    """Keep the changes of several webhooks, the newest of each person winning; tells what became of each.

    Args:
        digests: keep out who was erased; None where nobody can be.
    """
    changes = [change for webhook in webhooks for change in webhook]
    batch = Batch(connection, now)
    taken = batch.load(changes, digests)
    verdicts = iter([Verdict.IGNORED if change is None else batch.apply(change) for change in taken])
    due_accounts = batch.save()
    return [Kept(tuple(next(verdicts) for _ in webhook), due_accounts) for webhook in webhooks]


class Effect(StrEnum):
    """What a scan did at an address: somebody entered or left, brought other fields, or only has something to be
    told.
    """

    ENTERED = "entered"
    LEFT = "left"
    RENEWED = "renewed"
    # The stored word of earlier versions; the column holds at most 8 characters.
    CONFIRMED = "told"


class Batch:
    """One transaction's worth of changes: what they touch is locked and read, decided in a ledger, and written back.

    The table of exports has to be shared before, so that nobody sets one running meanwhile: else a member could stay
    without a due time.

    Args:
        is_backfill: they come from a scan, and are told after all live ones.
    """

    def __init__(self, connection: Connection, now: datetime, *, is_backfill: bool = False) -> None:
        self._connection = connection
        self._is_backfill = is_backfill
        self._ledger = Ledger(now)
        self._accounts: dict[int, str] = {}
        self._states: dict[int, str] = {}
        self._member_ids: dict[tuple[str, str], int] = {}
        self._without_due: set[int] = set()
        self._called: set[int] = set()
        self._put_off: set[int] = set()
        self._seen: set[int] = set()
        self._known: set[tuple[int, str]] = set()
        self._addresses: dict[int, str] = {}

    def load(self, changes: Sequence[MembershipChange], digests: Digests | None) -> list[MembershipChange | None]:
        """Lock and read everything that the changes may touch; returns them as they are taken, None for those that are
        not: a stopped export takes none, and nobody takes what is of erased people.
        """
        merged = self._load_exports({change.export_id for change in changes})
        if merged:
            # Whoever read the exports a moment ago still names the one that was merged.
            changes = [c._replace(export_id=merged.get(c.export_id, c.export_id)) for c in changes]
        taking = {export_id for export_id, state in self._states.items() if state != ExportState.STOPPED}
        self._seen = taking.intersection(change.export_id for change in changes)
        admitted = changes if digests is None else admit(self._connection, digests, changes)
        each = [change if change is not None and change.export_id in taking else None for change in admitted]
        taken = [change for change in each if change is not None]
        self._load_identities(taken)
        self._load_members(taken)
        self._load_memberships()
        return each

    def apply(self, change: MembershipChange) -> Verdict:
        """Decide one change."""
        return self._ledger.apply(change)

    def _load_exports(self, ids: set[int]) -> dict[int, int]:
        """Read exports; returns those among them that were merged, with the export that takes their changes."""
        merged: dict[int, int] = {}
        for row in _EXPORTS.fetch(self._connection, sorted(ids)):
            self._accounts[row.id] = row.account
            self._states[row.id] = row.state
            if row.merged_into is not None:
                merged[row.id] = row.merged_into
        others = set(merged.values()) - ids
        return merged | self._load_exports(others) if others else merged

    def _load_identities(self, changes: Collection[MembershipChange]) -> None:
        wanted: dict[int, set[str]] = defaultdict(set)
        moving: set[tuple[int, str]] = set()
        for change in changes:
            if change.lytics_id is not None:
                wanted[change.export_id].add(change.lytics_id)
                if change.kind is not Kind.CHANGE:
                    moving.add((change.export_id, change.lytics_id))
        found = [
            (export_id, row)
            for export_id, ids in sorted(wanted.items())
            for row in _IDENTITIES.fetch(self._connection, export_id, sorted(ids))
        ]
        # They stay while the identities that name them are locked.
        held = {row.member_id for _, row in found if row.member_id is not None}
        addresses = {row.id: row.address for row in _ADDRESSES.fetch(self._connection, sorted(held))} if held else {}
        self._ledger.identities = {key: Identity(*key) for key in moving}
        for export_id, row in found:
            last = move_of(row.moved_at_ns, row.moved_message_at_ns, is_enter=bool(row.is_enter))
            identity = Identity(export_id, row.lytics_id, last, addresses.get(row.member_id))
            self._ledger.identities[export_id, row.lytics_id] = identity
            self._known.add((export_id, row.lytics_id))

    def _load_members(self, changes: Collection[MembershipChange]) -> None:
        wanted, new = self._members_of(changes)
        self._make_members(new)
        self._lock_members(wanted)
        # Somebody else may have taken one out between the two, who then is made again.
        while missing := new.keys() - self._member_ids.keys():
            self._make_members({key: new[key] for key in missing})
            self._lock_members(wanted)

    def _make_members(self, new: Mapping[tuple[str, str], bool]) -> None:
        """Those of them that are not there, by account and address; due at once where that is true."""
        due = self._ledger.at, BACKFILL if self._is_backfill else LIVE
        rows = [(*key, *(due if is_due else (None, LIVE))) for key, is_due in sorted(new.items())]
        for row in _MAKE_MEMBERS.fetch_each(self._connection, rows):
            self._member_ids[row.account, row.address] = row.id
            if not new[row.account, row.address]:
                self._without_due.add(row.id)

    def _lock_members(self, wanted: AbstractSet[tuple[str, str]]) -> None:
        """Those of them that are there, and were not made just now."""
        rest = wanted - self._member_ids.keys()
        if not rest:
            return
        accounts, addresses = (sorted(set(values)) for values in zip(*rest, strict=True))
        for row in _MEMBERS.fetch(self._connection, accounts, addresses):
            if (row.account, row.address) in rest:
                self._member_ids[row.account, row.address] = row.id
                self._addresses[row.id] = row.address
                if row.due_at is None:
                    self._without_due.add(row.id)
                if row.lease is not None:
                    self._called.add(row.id)
                elif row.priority != LIVE:
                    self._put_off.add(row.id)

    def _members_of(
        self, changes: Collection[MembershipChange]
    ) -> tuple[set[tuple[str, str]], dict[tuple[str, str], bool]]:
        """Account and address of all that may be touched; and those among them that are made where they are not there,
        with whether they are due.

        That is foreseen: who is new and enters is told of nearly always, and made due at once costs no second write. In
        the few other cases whoever claims the member finds nothing to tell, and lets it go.
        """
        wanted: set[tuple[str, str]] = set()
        new: dict[tuple[str, str], bool] = defaultdict(bool)
        for change in changes:
            account = self._accounts[change.export_id]
            identity = self._ledger.identities.get((change.export_id, change.lytics_id or ""))
            if identity is not None and identity.address is not None:
                wanted.add((account, identity.address))
            if change.address is not None:
                wanted.add((account, change.address))
                # A `change` of somebody unknown moves nobody, so nobody is made for it.
                if change.kind is not Kind.CHANGE or identity is not None:
                    is_running = self._states[change.export_id] == ExportState.RUNNING
                    new[account, change.address] |= is_running and change.kind is not Kind.EXIT
        return wanted, new

    def _load_memberships(self) -> None:
        if not self._addresses:
            return
        for row in _MEMBERSHIPS.fetch(self._connection, sorted(self._addresses), sorted(self._seen)):
            membership = membership_of(row, self._addresses[row.member_id])
            take_back(membership)
            self._ledger.memberships[membership.export_id, membership.address] = membership
            if row.member_id in self._called:
                self._ledger.called.add((membership.export_id, membership.address))

    def save(self) -> frozenset[str]:
        """Write back what changed; returns the accounts that now have somebody to call for."""
        self._save_identities()
        due = self._make_due()
        changed = [self._ledger.memberships[key] for key in self._ledger.changed]
        rows = rows_of([(self._member_id(m.export_id, m.address), m) for m in changed])
        SAVE_MEMBERSHIPS.run(self._connection, rows)
        APPEND.run(self._connection, list(self._lines()))
        seen = set[int]() if self._is_backfill else self._seen
        save_tallies(self._connection, self._ledger.tallies, self._ledger.at, seen=seen)
        return due

    def addresses(self) -> set[tuple[int, str]]:
        """The memberships that may be touched, by export and address, also where there is none yet."""
        loaded = {(export_id, address) for export_id in self._seen for _, address in self._member_ids}
        return loaded | self._ledger.memberships.keys()

    def suppose(self, export_id: int, address: str, effect: Effect, moment_ns: int) -> None:
        """Decide as if a scan had had this effect at an address, and Sailthru had not been told of it yet."""
        membership = self._ledger.memberships.setdefault(
            (export_id, address), Membership(export_id=export_id, address=address)
        )
        membership.revision += 1
        if effect is not Effect.CONFIRMED:
            membership.fields_at_ns = moment_ns if effect is not Effect.LEFT else None
        if effect in {Effect.ENTERED, Effect.LEFT}:
            membership.desired = effect is Effect.ENTERED
            membership.moved = Move(moment_ns, moment_ns, membership.desired)
            membership.lytics_id, membership.vars = None, {}

    def effects(self, moment_ns: int) -> dict[str, Effect]:
        """What a scan whose time that is had as effects, by address."""
        found: dict[str, Effect] = {}
        for key in self._ledger.changed:
            membership = self._ledger.memberships[key]
            if not membership.desired:
                effect = Effect.LEFT
            elif membership.moved == Move(moment_ns, moment_ns, is_enter=True):
                effect = Effect.ENTERED
            else:
                effect = Effect.RENEWED if membership.fields_at_ns == moment_ns else Effect.CONFIRMED
            found[membership.address] = effect
        return found

    def _member_id(self, export_id: int, address: str) -> int:
        return self._member_ids[self._accounts[export_id], address]

    def _save_identities(self) -> None:
        moved: list[tuple[object, ...]] = []
        new: list[tuple[object, ...]] = []
        for key in sorted(self._ledger.moved):
            identity = self._ledger.identities[key]
            held = identity.address
            if identity.last is not None:
                member_id = None if held is None else self._member_id(identity.export_id, held)
                (moved if key in self._known else new).append((*key, *identity.last, member_id))
        # Before the others are written: who waits for one of the new ones waits for nobody who waits for them.
        if _MAKE_IDENTITIES.run(self._connection, new) < len(new):
            raise Overtaken
        _MOVE_IDENTITIES.run(self._connection, moved)

    def _make_due(self) -> frozenset[str]:
        ids: set[int] = set()
        put_off: set[int] = set()
        accounts: set[str] = set()
        for export_id, address in self._ledger.changed:
            membership = self._ledger.memberships[export_id, address]
            if membership.is_pending and self._states[export_id] == ExportState.RUNNING:
                accounts.add(self._accounts[export_id])
                # Who is due already stays as it is: waiting for a retry, or in a worker's hands.
                member_id = self._member_id(export_id, address)
                if member_id in self._without_due:
                    ids.add(member_id)
                elif member_id in self._put_off and not self._is_backfill:
                    put_off.add(member_id)
        priority = BACKFILL if self._is_backfill else LIVE
        _MAKE_DUE.run(self._connection, [(self._ledger.at, priority, member_id) for member_id in sorted(ids)])
        _MAKE_LIVE.run(self._connection, [(member_id,) for member_id in sorted(put_off)])
        return frozenset(accounts)

    def _lines(self) -> Iterator[Line]:
        for entry in self._ledger.entries:
            member_id = self._member_ids.get((self._accounts[entry.export_id], entry.address))
            if member_id is not None:
                yield Line(self._ledger.at, member_id, entry.export_id, "received", _received(entry))


def _received(entry: Entry) -> dict[str, object]:
    detail: dict[str, object] = {"kind": entry.kind.value, "verdict": entry.verdict.value}
    if entry.moved_at_ns is not None:
        detail["moved_at_ns"] = entry.moved_at_ns
    if entry.clock_corrected:
        detail["clock_corrected"] = True
    if entry.by_scan:
        detail["by_scan"] = True
    return detail
