"""Who makes a list: one of all workers and replicas at a time, since calls side by side have made several of one
name.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.store.database.dialect import lock_row
from app.store.schema import exports


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether it is our turn to make a list.

    Args:
        is_ours: for as long as it was asked for; else somebody else makes it.
        is_ready: it exists, so that there is nothing to do.
    """

    is_ours: bool
    is_ready: bool


def take_turn(
    connection: Connection, account: str, name: str, *, lease: int, now: datetime, lease_for: timedelta, is_again: bool
) -> Turn:
    """Take the turn, unless the list is ready or somebody else has it. A list that no export keeps is ready.

    Args:
        is_again: the list is missing, whatever was remembered.
    """
    of_list = (exports.c.account == account) & (exports.c.list_name == name)
    statement = select(exports.c.id, exports.c.list_ready_at, exports.c.list_lease, exports.c.list_leased_until)
    row = connection.execute(lock_row(statement.where(of_list))).one_or_none()
    if row is None or (row.list_ready_at is not None and not is_again):
        return Turn(is_ours=False, is_ready=True)
    is_held = row.list_lease is not None and row.list_leased_until is not None
    # Much further ahead than any lease it is the mark of a clock that was wrong; a little further, of somebody who took
    # it while we waited for the row, or whose clock is not quite ours.
    if is_held and row.list_lease != lease and now < row.list_leased_until <= now + 2 * lease_for:
        return Turn(is_ours=False, is_ready=False)
    connection.execute(update(exports).where(of_list).values(list_lease=lease, list_leased_until=now + lease_for))
    return Turn(is_ours=True, is_ready=False)


def give_turn_back(connection: Connection, account: str, name: str, lease: int) -> None:
    """Somebody else may try."""
    connection.execute(
        update(exports)
        .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_lease == lease)
        .values(list_lease=None, list_leased_until=None)
    )
