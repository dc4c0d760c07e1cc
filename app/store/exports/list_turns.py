"""Turns to create a list: one worker of all replicas at a time. Parallel calls can create several lists of one name."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.domain.export import ListTurn
from app.store import lease as leases
from app.store.database.dialect import lock_row
from app.store.schema import exports


def take_turn(
    connection: Connection,
    account: str,
    name: str,
    *,
    lease: int,
    now: datetime,
    lease_for: timedelta,
    is_missing: bool,
) -> ListTurn:
    """Take the turn, unless the list is ready or another worker has the turn.

    A list that no export keeps counts as ready.

    Args:
        is_missing: True if the list is missing in Sailthru, although it may be recorded as ready.
    """
    of_list = (exports.c.account == account) & (exports.c.list_name == name)
    statement = select(exports.c.id, exports.c.list_ready_at, exports.c.list_lease, exports.c.list_leased_until)
    row = connection.execute(lock_row(statement.where(of_list))).one_or_none()
    if row is None or (row.list_ready_at is not None and not is_missing):
        return ListTurn(is_ours=False, is_ready=True)
    is_others = row.list_lease is not None and row.list_lease != lease
    if is_others and not leases.is_over(row.list_leased_until, now, lease_for):
        return ListTurn(is_ours=False, is_ready=False)
    connection.execute(update(exports).where(of_list).values(list_lease=lease, list_leased_until=now + lease_for))
    return ListTurn(is_ours=True, is_ready=False)


def release_turn(connection: Connection, account: str, name: str, lease: int) -> None:
    connection.execute(
        update(exports)
        .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_lease == lease)
        .values(list_lease=None, list_leased_until=None)
    )
