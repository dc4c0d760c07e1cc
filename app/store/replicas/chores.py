"""Periodic chores that one replica does for all."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import chores


class Chores:
    """Gives each turn of a chore to one replica."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def take_turn(self, name: str, every: timedelta) -> bool:
        """Return True if the chore is due and this replica does it. It is due again after `every`."""
        return await self._database.write(lambda c: _take_turn(c, name, self._clock(), every))


def _take_turn(connection: Connection, name: str, now: datetime, every: timedelta) -> bool:
    connection.execute(insert_or_nothing(connection, chores), [{"name": name, "next_at": now}])
    next_at = connection.scalar(lock_row(select(chores.c.next_at).where(chores.c.name == name)))
    # A time slightly further ahead than one turn is normal: another replica took the turn while this one waited for
    # the row, or the two clocks differ. A time much further ahead was written by a wrong clock and does not count.
    if next_at is not None and now < next_at <= now + 2 * every:
        return False
    connection.execute(update(chores).where(chores.c.name == name).values(next_at=now + every))
    return True
