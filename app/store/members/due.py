"""Due times: when a member is called next, and their correction after our clock was wrong."""

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
    """Make members due at `due_at` whose due time is impossibly late, after `latest`; return their number.

    Such a time was set while our clock was wrong. Without the correction the member, and every newer change of it,
    would wait until that time has come.
    """
    keys = [{"b_account": account, "b_priority": priority} for account in accounts for priority in (LIVE, BACKFILL)]
    values = {"b_latest": latest, "b_due": due_at}
    return sum(connection.execute(_CORRECT, {**key, **values}).rowcount for key in keys)


def next_due_at(connection: Connection, account: str) -> dict[int, datetime]:
    """Return by priority when the next member of an account is due, or its lease ends; no key where none is due."""
    found = {
        priority: connection.scalar(_FIRST_DUE, {"b_account": account, "b_priority": priority})
        for priority in (LIVE, BACKFILL)
    }
    return {priority: at for priority, at in found.items() if at is not None}
