"""The transaction that erases one address."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, select, union, update

from app.domain.counts import Tally
from app.domain.erasure import Digests, Erased, erase
from app.domain.export import ExportState
from app.domain.membership import Membership
from app.store.database.dialect import allow_table_scans, lock_table
from app.store.database.statements import insert
from app.store.members.removal import Place, remove, remove_empty
from app.store.members.rows import membership_of, parts, save_memberships, save_tallies
from app.store.schema import LIVE, erasures, exports, identities, journal, members, memberships

# States in which a member can still leave the list: now, or when the export runs again.
STATES_WITH_DELIVERY = frozenset({ExportState.RUNNING, ExportState.PAUSED, ExportState.LIST_CHANGED})
# An address with more Lytics users than this is shared, so the users are not erased with it.
MOST_USERS = 10


def users_of(connection: Connection, address: str) -> set[str]:
    """Return the Lytics users that hold an address or entered it last; empty if there are more than `MOST_USERS`."""
    named = select(members.c.id).where(members.c.address == address)
    statement = union(
        select(identities.c.lytics_id).where(identities.c.member_id.in_(named)),
        select(memberships.c.lytics_id).where(memberships.c.member_id.in_(named), memberships.c.lytics_id.is_not(None)),
    )
    users = set(connection.scalars(statement.limit(MOST_USERS + 1)))
    return users if len(users) <= MOST_USERS else set()


def last_members_of(connection: Connection, users: Collection[str]) -> set[int]:
    """Return the members that these Lytics users entered last.

    This reads all memberships. An index would slow down every change, and erasures are rare.
    """
    if not users:
        return set()
    allow_table_scans(connection)
    statement = select(memberships.c.member_id).where(memberships.c.lytics_id.in_(sorted(users))).distinct()
    return set(connection.scalars(statement))


@dataclass(frozen=True, slots=True)
class _Member:
    """A member to erase, or one that erased and other Lytics users share.

    Args:
        is_named: True if it has the address to erase.
        is_leased: True if a worker has claimed it.
    """

    account: str
    due_at: datetime | None
    is_named: bool
    is_leased: bool


class Erasing:
    """One erasure.

    It locks the table of erasures exclusively, so that no change is stored meanwhile. The other locks are taken in the
    order of all writers: exports, identities, members, memberships.
    """

    def __init__(
        self, connection: Connection, digests: Digests, address: str, now: datetime, *, leave_lists: bool
    ) -> None:
        self._connection = connection
        self._digests = digests
        self._address = address
        self._digest = digests.of_address(address)
        self._now = now
        self._leave_lists = leave_lists
        self._states: dict[int, str] = {}
        self._members: dict[int, _Member] = {}
        self._tallies: dict[int, Tally] = defaultdict(Tally)
        self._removed: list[Place] = []
        self._remaining: list[tuple[int, Membership]] = []
        self._leased: set[int] = set()

    def run(self, known_users: Collection[str], known_members: Collection[int]) -> Erased:
        """Erase the address.

        Args:
            known_users: Lytics users of the address, read before this transaction.
            known_members: members that these users entered last.
        """
        self._load_exports()
        lock_table(self._connection, erasures, is_exclusive=True)
        users = users_of(self._connection, self._address)
        new_members = last_members_of(self._connection, users.difference(known_users))
        held = self._lock_identities(users)
        self._lock_members(held.union(known_members, new_members))
        shared = self._erase_memberships(users)
        self._delete_timelines(shared)
        self._delete_identities(users)
        save_memberships(self._connection, self._remaining)
        due_accounts = self._make_due()
        remove(self._connection, self._removed)
        remove_empty(self._connection, self._members)
        save_tallies(self._connection, self._tallies, self._now)
        was_known = self._save_digests(users)
        return Erased(was_known, self._leaving(), due_accounts)

    def _load_exports(self) -> None:
        # A resume takes this lock exclusively. Without it, a member could end up pending but without a due time.
        lock_table(self._connection, exports, is_exclusive=False)
        found = self._connection.execute(select(exports.c.id, exports.c.state))
        self._states = {row.id: row.state for row in found}

    def _lock_identities(self, users: Collection[str]) -> set[int]:
        """Lock the identities of these users; return the members that they hold."""
        found = self._connection.scalars(
            select(identities.c.member_id)
            .where(identities.c.export_id.in_(sorted(self._states)), identities.c.lytics_id.in_(sorted(users)))
            .order_by(identities.c.export_id, identities.c.lytics_id)
            .with_for_update()
        )
        return {member_id for member_id in found if member_id is not None}

    def _lock_members(self, others: set[int]) -> None:
        named = self._connection.scalars(select(members.c.id).where(members.c.address == self._address))
        for part in parts(sorted(others.union(named))):
            found = self._connection.execute(
                select(members.c.id, members.c.account, members.c.address, members.c.due_at, members.c.lease)
                .where(members.c.id.in_(part))
                .order_by(members.c.id)
                .with_for_update()
            )
            for row in found:
                is_named, is_leased = row.address == self._address, row.lease is not None
                self._members[row.id] = _Member(row.account, row.due_at, is_named=is_named, is_leased=is_leased)

    def _erase_memberships(self, users: Collection[str]) -> set[int]:
        """Erase each membership of the address or its users; return the members that other users share."""
        shared: set[int] = set()
        for part in parts(sorted(self._members)):
            for row in self._connection.execute(
                select(memberships)
                .where(memberships.c.member_id.in_(part))
                .order_by(memberships.c.member_id, memberships.c.export_id)
            ):
                if self._members[row.member_id].is_named or row.lytics_id in users:
                    self._erase(row)
                else:
                    shared.add(row.member_id)
        return shared

    def _erase(self, row: Row[Any]) -> None:
        membership = membership_of(row, self._address)
        has_begun = membership.erasure is not None
        is_leased = self._members[row.member_id].is_leased
        if is_leased and not has_begun:
            self._leased.add(row.member_id)
        leaves = self._leave_lists and self._states[row.export_id] in STATES_WITH_DELIVERY
        erase(membership, self._digest, self._tallies[row.export_id], leaves=leaves)
        if membership.is_pending or has_begun or is_leased:
            self._remaining.append((row.member_id, membership))
        else:
            self._removed.append(Place(row.member_id, row.export_id))

    def _delete_timelines(self, shared: Collection[int]) -> None:
        """Delete the lines of the erased memberships, and all lines of members that are not shared."""
        for part in parts(sorted(self._members.keys() - set(shared))):
            self._connection.execute(delete(journal).where(journal.c.member_id.in_(part)))
        places = [*self._removed, *(Place(member_id, m.export_id) for member_id, m in self._remaining)]
        rows = [{"b_member": p.member_id, "b_export": p.export_id} for p in places if p.member_id in shared]
        if rows:
            where = and_(journal.c.member_id == bindparam("b_member"), journal.c.export_id == bindparam("b_export"))
            self._connection.execute(delete(journal).where(where), rows)

    def _delete_identities(self, users: Collection[str]) -> None:
        named = sorted(member_id for member_id, member in self._members.items() if member.is_named)
        self._connection.execute(delete(identities).where(identities.c.member_id.in_(named)))
        self._connection.execute(
            delete(identities).where(
                identities.c.export_id.in_(sorted(self._states)), identities.c.lytics_id.in_(sorted(users))
            )
        )

    def _make_due(self) -> frozenset[str]:
        """Make members due that must leave a list; return their accounts.

        Leased members lose their lease, so that the worker records nothing about them. Their due time stays at the end
        of the lease, when the worker's call has ended.
        """
        leaving = {
            member_id
            for member_id, m in self._remaining
            if m.is_pending and self._states[m.export_id] == ExportState.RUNNING
        }
        idle = {member_id for member_id in leaving if self._members[member_id].due_at is None}
        self._connection.execute(update(members).where(members.c.id.in_(sorted(self._leased))).values(lease=None))
        self._connection.execute(
            update(members).where(members.c.id.in_(sorted(idle))).values(due_at=self._now, priority=LIVE, attempts=0)
        )
        return frozenset(self._members[member_id].account for member_id in leaving)

    def _save_digests(self, users: Collection[str]) -> bool:
        """Store the digests; return whether the address had a member, now or when it was first erased."""
        stored = self._connection.scalar(select(erasures.c.was_known).where(erasures.c.digest == self._digest))
        was_known = bool(stored) or any(member.is_named for member in self._members.values())
        statement = insert(self._connection, erasures)
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["digest"], set_={"was_known": statement.excluded.was_known}
            ),
            [
                {
                    "digest": digest,
                    "address_digest": self._digest,
                    "key_id": self._digests.key_id,
                    "was_known": was_known,
                    "erased_at": self._now,
                }
                for digest in sorted({self._digest, *map(self._digests.of_user, users)})
            ],
        )
        return was_known

    def _leaving(self) -> tuple[str, ...]:
        found = self._connection.scalars(
            select(exports.c.list_name)
            .join(memberships, memberships.c.export_id == exports.c.id)
            .where(memberships.c.erasure == self._digest, memberships.c.revision > memberships.c.confirmed_revision)
            .distinct()
            .order_by(exports.c.list_name)
        )
        return tuple(name for name in found if name is not None)
