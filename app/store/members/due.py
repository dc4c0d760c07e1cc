"""When somebody is due, as claims and the worker's clock ask; mended where our clock was wrong."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from app.store.schema import BACKFILL, LIVE, members

_FIRST_DUE = select(func.min(members.c.due_at)).where(
    members.c.account == bindparam("b_account"),
    members.c.priority == bindparam("b_priority"),
    members.c.due_at.is_not(None),
)

_BRING_BACK = (
    update(members)
    .where(
        members.c.account == bindparam("b_account"),
        members.c.priority == bindparam("b_priority"),
        members.c.due_at > bindparam("b_latest"),
    )
    .values(due_at=bindparam("b_due"))
)


def bring_back(connection: Connection, accounts: Iterable[str], *, latest: datetime, due_at: datetime) -> int:
    """Make due at `due_at` whoever is due later than `latest`, which nobody should be; returns how many were.

    They were called, or failed, while our clock was wrong; else they would wait until it is as late as it seemed then,
    and with them every newer change of theirs.
    """
    keys = [{"b_account": account, "b_priority": priority} for account in accounts for priority in (LIVE, BACKFILL)]
    values = {"b_latest": latest, "b_due": due_at}
    return sum(connection.execute(_BRING_BACK, {**key, **values}).rowcount for key in keys)


def next_due_at(connection: Connection, account: str) -> dict[int, datetime]:
    """When the next member of an account is due, or its lease ends, by priority; nothing where nobody waits."""
    found = {
        priority: connection.scalar(_FIRST_DUE, {"b_account": account, "b_priority": priority})
        for priority in (LIVE, BACKFILL)
    }
    return {priority: at for priority, at in found.items() if at is not None}
