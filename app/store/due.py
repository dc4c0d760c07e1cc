"""
Who is due, and when: read by claims, set when an export begins to run.
"""

from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from app.domain.export import ExportState
from app.store.rows import parts
from app.store.schema import BACKFILL, LIVE, exports, members, memberships

_FIRST_DUE = select(func.min(members.c.due_at)).where(
    members.c.account == bindparam("b_account"),
    members.c.priority == bindparam("b_priority"),
    members.c.due_at.is_not(None),
)
_WAKE = (
    update(members)
    .where(members.c.id.in_(bindparam("b_ids", expanding=True)), members.c.due_at.is_(None))
    .values(due_at=bindparam("b_due"))
)


def next_due_at(connection: Connection, account: str) -> dict[int, datetime]:
    """
    When the next member of an account is due, or its lease ends, by priority; nothing where nobody waits.
    """
    found = {
        priority: connection.scalar(_FIRST_DUE, {"b_account": account, "b_priority": priority})
        for priority in (LIVE, BACKFILL)
    }
    return {priority: at for priority, at in found.items() if at is not None}


def wake(connection: Connection, export_id: int, *, size: int, now: datetime) -> bool:
    """
    Make the next slice of an export's waiting members due, after it began to run. True while there is more.

    How far it came is stored with each slice, so that a restart goes on from there.
    """
    export = connection.execute(
        select(exports.c.waking_from, exports.c.state).where(exports.c.id == export_id).with_for_update()
    ).one_or_none()
    if export is None or export.waking_from is None:
        return False
    waiting = (
        select(memberships.c.member_id)
        .where(
            memberships.c.export_id == export_id,
            memberships.c.revision > memberships.c.told_revision,
            memberships.c.member_id > export.waking_from,
        )
        .order_by(memberships.c.member_id)
        .limit(size)
    )
    ids = list(connection.scalars(waiting)) if export.state == ExportState.RUNNING else []
    for part in parts(ids):
        connection.execute(_WAKE, {"b_ids": part, "b_due": now})
    is_more = len(ids) == size
    connection.execute(
        update(exports).where(exports.c.id == export_id).values(waking_from=ids[-1] if is_more else None)
    )
    return is_more
