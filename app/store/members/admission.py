"""Rejects changes of erased addresses and users, in the transaction that stores changes."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from app.domain.change import Kind, MembershipChange
from app.domain.erasure import Digests
from app.store.database.dialect import lock_table
from app.store.members.rows import parts
from app.store.schema import erasures, identities

User = tuple[int, str]

_ANY_ERASURE = select(erasures.c.digest).limit(1)


def admit(
    connection: Connection, digests: Digests, changes: Sequence[MembershipChange]
) -> list[MembershipChange | None]:
    """Return the changes in their order, with None in place of changes of erased addresses and users.

    An exit that names an erased address is accepted without the address if its user is known and not erased. The user
    may have another address on the list.

    The shared lock on the table of erasures orders this transaction before or after a concurrent erasure. Without
    erasures this is one read.
    """
    lock_table(connection, erasures, is_exclusive=False)
    if connection.scalar(_ANY_ERASURE) is None:
        return list(changes)
    addresses = {digests.of_address(c.address): c.address for c in changes if c.address is not None}
    users = {digests.of_user(c.lytics_id): c.lytics_id for c in changes if c.lytics_id is not None}
    erased = _erased_among(connection, [*addresses, *users])
    erased_addresses = {address for digest, address in addresses.items() if digest in erased}
    erased_users = {user for digest, user in users.items() if digest in erased}

    others = [None if change.lytics_id in erased_users else change for change in changes]
    exits = [c for c in others if c is not None and c.address in erased_addresses and c.kind is Kind.EXIT]
    known = _known_among(connection, exits) if exits else set()
    # Users that this batch makes known.
    known |= {
        _user(c) for c in others if c is not None and c.address not in erased_addresses and c.kind is not Kind.CHANGE
    }

    def admitted(change: MembershipChange | None) -> MembershipChange | None:
        if change is None or change.address not in erased_addresses:
            return change
        is_kept = change.kind is Kind.EXIT and change.lytics_id is not None and _user(change) in known
        return change._replace(address=None) if is_kept else None

    return [admitted(change) for change in others]


def _user(change: MembershipChange) -> User:
    return change.export_id, change.lytics_id or ""


def _erased_among(connection: Connection, digests: Collection[str]) -> set[str]:
    found: set[str] = set()
    for part in parts(sorted(digests)):
        found.update(connection.scalars(select(erasures.c.digest).where(erasures.c.digest.in_(part))))
    return found


def _known_among(connection: Connection, changes: Collection[MembershipChange]) -> set[User]:
    known: set[User] = set()
    export_ids = sorted({change.export_id for change in changes})
    for part in parts(sorted({change.lytics_id for change in changes if change.lytics_id is not None})):
        found = connection.execute(
            select(identities.c.export_id, identities.c.lytics_id).where(
                identities.c.export_id.in_(export_ids), identities.c.lytics_id.in_(part)
            )
        )
        known |= {(row.export_id, row.lytics_id) for row in found}
    return known
