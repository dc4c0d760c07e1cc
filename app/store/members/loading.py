"""Locks and reads all rows that a batch of changes may touch."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from app.domain.change import Kind, MembershipChange
from app.domain.erasure import Digests, cancel_erasure
from app.domain.export import Export, ExportState
from app.domain.ledger import Identity, Ledger
from app.store.database.prepared import Prepared
from app.store.database.statements import among, insert
from app.store.members.admission import admit
from app.store.members.rows import membership_of, move_of
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
_MEMBERS = Prepared(
    select(members.c.id, members.c.account, members.c.address, members.c.due_at, members.c.lease, members.c.priority)
    .where(among(members.c.account, "accounts"), among(members.c.address, "addresses"))
    .order_by(members.c.id)
    .with_for_update(),
    "accounts",
    "addresses",
)
_INSERT_MEMBERS = Prepared(
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
_MEMBERSHIPS = Prepared(
    select(memberships).where(
        among(memberships.c.member_id, "member_ids"), among(memberships.c.export_id, "export_ids")
    ),
    "member_ids",
    "export_ids",
)


@dataclass(slots=True)
class Loaded:
    """The rows that a batch of changes may touch, locked until the transaction ends.

    Args:
        ledger: decides the changes.
        is_backfill: True if the changes come from a scan. Their members are called after all live ones.
        accounts, states: the accounts and states of the exports, by export id.
        receiving: the exports that receive changes of this batch.
        member_ids: ids of the members, by account and address.
        stored_identities: the keys of the identities that have a row.
        without_due: ids of the members that have no due time.
        postponed: ids of the members that only a backfill has made due.
    """

    ledger: Ledger
    is_backfill: bool = False
    accounts: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    receiving: set[int] = field(default_factory=set)
    member_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    stored_identities: set[tuple[int, str]] = field(default_factory=set)
    without_due: set[int] = field(default_factory=set)
    postponed: set[int] = field(default_factory=set)

    @property
    def priority(self) -> int:
        return BACKFILL if self.is_backfill else LIVE

    def member_id(self, export_id: int, address: str) -> int:
        return self.member_ids[self.accounts[export_id], address]

    def is_running(self, export_id: int) -> bool:
        return self.states[export_id] == ExportState.RUNNING

    def places(self) -> set[tuple[int, str]]:
        """Return export id and address of all memberships that may be touched, including those without a row."""
        possible = {(export_id, address) for export_id in self.receiving for _, address in self.member_ids}
        return possible | self.ledger.memberships.keys()


def load(
    connection: Connection,
    changes: Sequence[MembershipChange],
    now: datetime,
    digests: Digests | None,
    *,
    is_backfill: bool = False,
    known: Iterable[Export] = (),
) -> tuple[Loaded, list[MembershipChange | None]]:
    """Load the rows that changes may touch. Return them with the changes to apply.

    A change becomes None if its export is stopped, or if its address or user is erased. A change for a merged export is
    redirected to the export that it was merged into.

    The caller must hold the lock on the table of exports, at least in shared mode. If an export began to run meanwhile,
    a member could stay without a due time.

    Args:
        digests: recognize erased addresses and users; None if no erasure key is set.
        known: exports that were read in this transaction.
    """
    loaded = Loaded(Ledger(now), is_backfill)
    changes = _load_exports(connection, loaded, changes, known)
    active = {export_id for export_id, state in loaded.states.items() if state != ExportState.STOPPED}
    loaded.receiving = active.intersection(change.export_id for change in changes)
    admitted = changes if digests is None else admit(connection, digests, changes)
    decided = [change if change is not None and change.export_id in active else None for change in admitted]
    active_changes = [change for change in decided if change is not None]
    _load_identities(connection, loaded, active_changes)
    in_flight, addresses = _load_members(connection, loaded, active_changes)
    _load_memberships(connection, loaded, addresses, in_flight)
    return loaded, decided


def _load_exports(
    connection: Connection, loaded: Loaded, changes: Sequence[MembershipChange], known: Iterable[Export]
) -> Sequence[MembershipChange]:
    """Load the exports of changes; return the changes, redirected from merged exports."""
    for export in known:
        # Stopped exports are read below, because they may have been merged into other ones.
        if export.state is not ExportState.STOPPED:
            loaded.accounts[export.id], loaded.states[export.id] = export.account, export.state
    merged: dict[int, int] = {}
    missing = {change.export_id for change in changes} - loaded.states.keys()
    while missing:
        for row in _EXPORTS.fetch(connection, sorted(missing)):
            loaded.accounts[row.id], loaded.states[row.id] = row.account, row.state
            if row.merged_into is not None:
                merged[row.id] = row.merged_into
        missing = set(merged.values()) - loaded.states.keys()
    if not merged:
        return changes
    return [change._replace(export_id=merged.get(change.export_id, change.export_id)) for change in changes]


def _load_identities(connection: Connection, loaded: Loaded, changes: Collection[MembershipChange]) -> None:
    users: dict[int, set[str]] = defaultdict(set)
    moving: set[tuple[int, str]] = set()
    for change in changes:
        if change.lytics_id is not None:
            users[change.export_id].add(change.lytics_id)
            if change.kind is not Kind.CHANGE:
                moving.add((change.export_id, change.lytics_id))
    found = [
        (export_id, row)
        for export_id, ids in sorted(users.items())
        for row in _IDENTITIES.fetch(connection, export_id, sorted(ids))
    ]
    # The locked identities keep these members from being deleted.
    held = {row.member_id for _, row in found if row.member_id is not None}
    addresses = {row.id: row.address for row in _ADDRESSES.fetch(connection, sorted(held))} if held else {}
    loaded.ledger.identities = {key: Identity(*key) for key in moving}
    for export_id, row in found:
        last = move_of(row.moved_at_ns, row.moved_message_at_ns, is_enter=bool(row.is_enter))
        identity = Identity(export_id, row.lytics_id, last, addresses.get(row.member_id))
        loaded.ledger.identities[export_id, row.lytics_id] = identity
        loaded.stored_identities.add((export_id, row.lytics_id))


def _load_members(
    connection: Connection, loaded: Loaded, changes: Collection[MembershipChange]
) -> tuple[set[int], dict[int, str]]:
    """Insert and lock members; return the ids of members in flight, and the addresses of existing members."""
    in_flight: set[int] = set()
    addresses: dict[int, str] = {}
    keys, new = _members_of(loaded, changes)
    _insert_members(connection, loaded, new)
    _lock_members(connection, loaded, keys, in_flight, addresses)
    # If another transaction deletes a member between the two statements, insert it again.
    while missing := new.keys() - loaded.member_ids.keys():
        _insert_members(connection, loaded, {key: new[key] for key in missing})
        _lock_members(connection, loaded, keys, in_flight, addresses)
    return in_flight, addresses


def _members_of(
    loaded: Loaded, changes: Collection[MembershipChange]
) -> tuple[set[tuple[str, str]], dict[tuple[str, str], bool]]:
    """Return the keys of all members that may be touched, and of the members to insert with whether they are due.

    A new member that enters nearly always needs a call, so it is inserted as due, which saves a second write. In the
    few other cases its claim finds nothing pending and releases it.
    """
    keys: set[tuple[str, str]] = set()
    new: dict[tuple[str, str], bool] = defaultdict(bool)
    for change in changes:
        account = loaded.accounts[change.export_id]
        identity = loaded.ledger.identities.get((change.export_id, change.lytics_id or ""))
        if identity is not None and identity.address is not None:
            keys.add((account, identity.address))
        if change.address is not None:
            keys.add((account, change.address))
            # A `change` of an unknown user never joins a list, so it needs no member.
            if change.kind is not Kind.CHANGE or identity is not None:
                new[account, change.address] |= loaded.is_running(change.export_id) and change.kind is not Kind.EXIT
    return keys, new


def _insert_members(connection: Connection, loaded: Loaded, new: Mapping[tuple[str, str], bool]) -> None:
    """Insert members that have no row yet. True means that the member is due at once."""
    due = loaded.ledger.at, loaded.priority
    rows = [(*key, *(due if is_due else (None, LIVE))) for key, is_due in sorted(new.items())]
    for row in _INSERT_MEMBERS.fetch_each(connection, rows):
        loaded.member_ids[row.account, row.address] = row.id
        if not new[row.account, row.address]:
            loaded.without_due.add(row.id)


def _lock_members(
    connection: Connection,
    loaded: Loaded,
    keys: AbstractSet[tuple[str, str]],
    in_flight: set[int],
    addresses: dict[int, str],
) -> None:
    """Lock and read the members that existed before this batch."""
    existing = keys - loaded.member_ids.keys()
    if not existing:
        return
    accounts, names = (sorted(set(values)) for values in zip(*existing, strict=True))
    for row in _MEMBERS.fetch(connection, accounts, names):
        if (row.account, row.address) not in existing:
            continue
        loaded.member_ids[row.account, row.address] = row.id
        addresses[row.id] = row.address
        if row.due_at is None:
            loaded.without_due.add(row.id)
        if row.lease is not None:
            in_flight.add(row.id)
        elif row.priority != LIVE:
            loaded.postponed.add(row.id)


def _load_memberships(
    connection: Connection, loaded: Loaded, addresses: Mapping[int, str], in_flight: AbstractSet[int]
) -> None:
    if not addresses:
        return
    for row in _MEMBERSHIPS.fetch(connection, sorted(addresses), sorted(loaded.receiving)):
        membership = membership_of(row, addresses[row.member_id])
        cancel_erasure(membership)
        key = membership.export_id, membership.address
        loaded.ledger.memberships[key] = membership
        if row.member_id in in_flight:
            loaded.ledger.in_flight.add(key)
