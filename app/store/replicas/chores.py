"""Periodic chores that one replica does for all replicas."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.store import lease as leases
from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import chores


class Chores:
    """Assigns each turn of a chore to one replica."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def take_turn(self, name: str, every: timedelta) -> bool:
        """Return True if the chore is due and this replica has the turn. The chore is due again after `every`."""
        return await self._database.write(lambda c: _take_turn(c, name, self._clock(), every))


def _take_turn(connection: Connection, name: str, now: datetime, every: timedelta) -> bool:
    connection.execute(insert_or_nothing(connection, chores), [{"name": name, "next_at": now}])
    next_at = connection.scalar(lock_row(select(chores.c.next_at).where(chores.c.name == name)))
    if not leases.is_over(next_at, now, every):
        return False
    connection.execute(update(chores).where(chores.c.name == name).values(next_at=now + every))
    return True
