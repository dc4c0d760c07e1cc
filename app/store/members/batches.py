"""Carries out orders on every member of an export in batches, so that claims and writers never wait long.

There are three such orders: make pending members due, mark memberships as unconfirmed, and cancel pending changes. The
progress is stored with each batch, so that the work continues after a restart.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, Select, and_, bindparam, delete, exists, or_, select, update

from app.domain.change import Kind, MembershipChange
from app.domain.counts import Tally
from app.domain.erasure import Digests
from app.domain.export import ExportState
from app.domain.membership import Confirmed, Membership
from app.domain.settlement import cancel
from app.store.database.dialect import lock_table
from app.store.history.journal import Line, write_lines
from app.store.members.changes import apply_changes
from app.store.members.removal import Place, remove
from app.store.members.rows import membership_of, parts, save_memberships, save_tallies
from app.store.schema import exports, identities, members, memberships

_MAKE_DUE = (
    update(members)
    .where(members.c.id.in_(bindparam("b_ids", expanding=True)), members.c.due_at.is_(None))
    .values(due_at=bindparam("b_due"))
)
_IS_PENDING = memberships.c.revision > memberships.c.confirmed_revision


def unfinished() -> Select[tuple[int]]:
    """Select the exports with unfinished orders."""
    pending = exists().where(memberships.c.export_id == exports.c.id, _IS_PENDING)
    is_stopping = and_(exports.c.state == ExportState.STOPPED, pending)
    is_marked = or_(exports.c.waking_from.is_not(None), exports.c.doubting_from.is_not(None))
    return select(exports.c.id).where(or_(is_marked, is_stopping)).order_by(exports.c.id)


def next_batch(connection: Connection, export_id: int, *, size: int, now: datetime, digests: Digests | None) -> bool:
    """Do the next batch of each unfinished order; return whether there is more to do now."""
    # The lock makes new orders wait for the end of this transaction. Otherwise a mark that is set meanwhile could be
    # overwritten. Two replicas may safely do the same batch.
    lock_table(connection, exports, is_exclusive=False)
    more = [
        make_pending_due(connection, export_id, size=size, now=now),
        mark_unconfirmed(connection, export_id, size=size),
        cancel_pending(connection, export_id, size=size, now=now, digests=digests),
    ]
    return any(more)


def make_pending_due(connection: Connection, export_id: int, *, size: int, now: datetime) -> bool:
    """Make the next batch of pending members of a running export due; return whether there is more."""
    export = connection.execute(
        select(exports.c.waking_from, exports.c.state).where(exports.c.id == export_id)
    ).one_or_none()
    if export is None or export.waking_from is None:
        return False
    pending = (
        select(memberships.c.member_id)
        .where(memberships.c.export_id == export_id, _IS_PENDING, memberships.c.member_id > export.waking_from)
        .order_by(memberships.c.member_id)
        .limit(size)
    )
    ids = list(connection.scalars(pending)) if export.state == ExportState.RUNNING else []
    for part in parts(ids):
        _lock_members(connection, part)
        connection.execute(_MAKE_DUE, {"b_ids": part, "b_due": now})
    is_more = len(ids) == size
    connection.execute(
        update(exports).where(exports.c.id == export_id).values(waking_from=ids[-1] if is_more else None)
    )
    return is_more


def mark_unconfirmed(connection: Connection, export_id: int, *, size: int) -> bool:
    """Mark the next batch as unconfirmed, because the list was replaced; return whether there is more.

    This causes no calls. Sailthru is read before a member joins again, after its next change or in a backfill.
    """
    marker = select(exports.c.doubting_from).where(exports.c.id == export_id)
    doubting_from = connection.scalar(marker)
    if doubting_from is None:
        return False
    statement = (
        select(memberships.c.member_id)
        .where(
            memberships.c.export_id == export_id,
            memberships.c.confirmed == Confirmed.IN,
            memberships.c.member_id > doubting_from,
        )
        .order_by(memberships.c.member_id)
        .limit(size)
    )
    ids = list(connection.scalars(statement))
    for part in parts(ids):
        _lock_members(connection, part)
        connection.execute(
            update(memberships)
            .where(memberships.c.member_id.in_(part), memberships.c.export_id == export_id)
            .values(confirmed=Confirmed.UNKNOWN, confirmed_vars=None)
        )
    is_more = len(ids) == size
    connection.execute(
        update(exports).where(exports.c.id == export_id).values(doubting_from=ids[-1] if is_more else None)
    )
    return is_more


def cancel_pending(
    connection: Connection, export_id: int, *, size: int, now: datetime, digests: Digests | None
) -> bool:
    """Cancel the next batch of pending changes of a stopped export; return whether there is more to do now.

    If the export was merged into another one, that export first takes the changes over. Members that a worker has
    claimed are skipped. Their calls still count, and the rest is cancelled with a later batch.
    """
    export = connection.execute(
        select(exports.c.state, exports.c.merged_into).where(exports.c.id == export_id)
    ).one_or_none()
    if export is None or export.state != ExportState.STOPPED:
        return False
    found = _lock_pending(connection, export_id, size)
    erased = [(member_id, m) for member_id, m in found if m.erasure is not None]
    changed = [(member_id, m) for member_id, m in found if m.erasure is None]
    if export.merged_into is not None and changed:
        apply_changes(connection, [[c for _, m in changed for c in _changes(m, export.merged_into)]], now, digests)
    tally = Tally()
    for _, membership in changed:
        cancel(membership, tally)
    save_memberships(connection, changed)
    _delete_moves(connection, export_id, changed)
    write_lines(connection, [Line(now, member_id, export_id, "cancelled", {}) for member_id, _ in changed])
    save_tallies(connection, {export_id: tally}, now)
    remove(connection, [Place(member_id, export_id) for member_id, _ in erased])
    return len(found) == size


def _lock_members(connection: Connection, ids: Collection[int]) -> None:
    locked = select(members.c.id).where(members.c.id.in_(ids)).order_by(members.c.id)
    connection.execute(locked.with_for_update()).all()


def _lock_pending(connection: Connection, export_id: int, size: int) -> list[tuple[int, Membership]]:
    """Return pending memberships of unclaimed members, locked in the order of all writers."""
    unclaimed_pending = (
        select(memberships.c.member_id, memberships.c.lytics_id)
        .join(members, members.c.id == memberships.c.member_id)
        .where(memberships.c.export_id == export_id, _IS_PENDING, members.c.lease.is_(None))
        .order_by(memberships.c.member_id)
        .limit(size)
    )
    rows = connection.execute(unclaimed_pending).all()
    users = sorted({row.lytics_id for row in rows if row.lytics_id is not None})
    for part in parts(users):
        locked = select(identities.c.lytics_id).where(
            identities.c.export_id == export_id, identities.c.lytics_id.in_(part)
        )
        connection.execute(locked.order_by(identities.c.lytics_id).with_for_update()).all()
    found: list[tuple[int, Membership]] = []
    for part in parts([row.member_id for row in rows]):
        unclaimed = select(members.c.id, members.c.address).where(members.c.id.in_(part), members.c.lease.is_(None))
        locked_rows = connection.execute(unclaimed.order_by(members.c.id).with_for_update())
        addresses = {row.id: row.address for row in locked_rows}
        pending = (
            select(memberships)
            .where(memberships.c.member_id.in_(sorted(addresses)), memberships.c.export_id == export_id, _IS_PENDING)
            .order_by(memberships.c.member_id)
        )
        found += [(row.member_id, membership_of(row, addresses[row.member_id])) for row in connection.execute(pending)]
    return found


def _changes(membership: Membership, export_id: int) -> list[MembershipChange]:
    """Return the state of a membership as a change for another export."""
    moved, address = membership.moved, membership.address
    if moved is None:
        return []
    kind = Kind.ENTER if membership.desired else Kind.EXIT
    message_at_ns = max(moved.message_at_ns, membership.fields_at_ns or 0)
    return [
        MembershipChange(
            export_id=export_id,
            kind=kind,
            address=address,
            lytics_id=membership.lytics_id,
            moved_at_ns=moved.moved_at_ns,
            message_at_ns=message_at_ns,
            vars=membership.vars,
        )
    ]


def _delete_moves(connection: Connection, export_id: int, changed: Collection[tuple[int, Membership]]) -> None:
    """Delete the newest moves of the Lytics users whose changes were cancelled."""
    of_export = identities.c.export_id == export_id
    for users in parts(sorted({m.lytics_id for _, m in changed if m.lytics_id is not None})):
        connection.execute(delete(identities).where(of_export, identities.c.lytics_id.in_(users)))
    for held in parts(sorted(member_id for member_id, _ in changed)):
        connection.execute(delete(identities).where(of_export, identities.c.member_id.in_(held)))
