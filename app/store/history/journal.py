"""The timeline of each member: received, called, answered, redriven, cancelled. It holds no field value."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from app.store.database.engine import Database
from app.store.database.prepared import Prepared
from app.store.schema import journal, members


class Line(NamedTuple):
    """One row of the journal.

    Args:
        what: `received`, `called`, `answered`, `redriven` or `cancelled`.
        detail: fixed words, list names and var names; never a value.
    """

    at: datetime
    member_id: int
    export_id: int | None
    what: str
    detail: dict[str, object]


def write_lines(connection: Connection, lines: list[Line]) -> None:
    """Append lines, in the transaction whose work they describe."""
    APPEND.run(connection, lines)


APPEND = Prepared(journal.insert(), *Line._fields)


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def timeline(self, address: str, *, limit: int = 200) -> list[tuple[str, Line]]:
        """Return the newest lines of an address with their accounts, oldest first; empty for an unknown address."""
        statement = (
            select(journal, members.c.account)
            .join(members, members.c.id == journal.c.member_id)
            .where(members.c.address == address)
            .order_by(journal.c.id.desc())
            .limit(limit)
        )
        rows = await self._database.rows(statement)
        return [(r.account, Line(r.at, r.member_id, r.export_id, r.what, r.detail)) for r in reversed(rows)]
