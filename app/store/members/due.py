"""Due times of members, and their correction after our clock was wrong."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from app.store.schema import BACKFILL, LIVE, members

_FIRST_DUE = select(func.min(members.c.due_at)).where(
    members.c.account == bindparam("b_account"),
    members.c.priority == bindparam("b_priority"),
    members.c.due_at.is_not(None),
)

_CORRECT = (
    update(members)
    .where(
        members.c.account == bindparam("b_account"),
        members.c.priority == bindparam("b_priority"),
        members.c.due_at > bindparam("b_latest"),
    )
    .values(due_at=bindparam("b_due"))
)


def correct_due_times(connection: Connection, accounts: Iterable[str], *, latest: datetime, due_at: datetime) -> int:
    """Set due times after `latest` to `due_at`; return how many were corrected.

    Such a late time was set while our clock was wrong. Without the correction, the member and all its newer changes
    would wait until then.
    """
    keys = [{"b_account": account, "b_priority": priority} for account in accounts for priority in (LIVE, BACKFILL)]
    values = {"b_latest": latest, "b_due": due_at}
    return sum(connection.execute(_CORRECT, {**key, **values}).rowcount for key in keys)


def next_due_at(connection: Connection, account: str) -> dict[int, datetime]:
    """Return the earliest due time or end of a lease by priority. Priorities without one are left out."""
    found = {
        priority: connection.scalar(_FIRST_DUE, {"b_account": account, "b_priority": priority})
        for priority in (LIVE, BACKFILL)
    }
    return {priority: at for priority, at in found.items() if at is not None}
