"""
When somebody is due, as claims and the worker's clock ask.
"""

from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from app.store.schema import BACKFILL, LIVE, members

_FIRST_DUE = select(func.min(members.c.due_at)).where(
    members.c.account == bindparam("b_account"),
    members.c.priority == bindparam("b_priority"),
    members.c.due_at.is_not(None),
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
