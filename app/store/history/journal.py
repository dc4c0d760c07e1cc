"""The timeline: what was received, called, answered and redriven for each member. Append-only, without any field
value.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from app.store.database.engine import Database
from app.store.database.prepared import Prepared
from app.store.schema import journal, members


class Line(NamedTuple):
    """One thing that happened to a member, a row of the journal.

    Args:
        what: `received`, `called`, `answered` or `redriven`.
        detail: fixed words, list names and var names; never a value.
    """

    at: datetime
    member_id: int
    export_id: int | None
    what: str
    detail: dict[str, object]


def write_lines(connection: Connection, lines: list[Line]) -> None:
    """Append lines in the transaction of the work that they tell of."""
    APPEND.run(connection, lines)


APPEND = Prepared(journal.insert(), *Line._fields)


class Journal:
    """Reads timelines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def timeline(self, address: str, *, limit: int = 200) -> list[tuple[str, Line]]:
        """The newest lines of an address, each with its account, oldest first; empty for a stranger."""
        statement = (
            select(journal, members.c.account)
            .join(members, members.c.id == journal.c.member_id)
            .where(members.c.address == address)
            .order_by(journal.c.id.desc())
            .limit(limit)
        )
        rows = await self._database.rows(statement)
        return [(r.account, Line(r.at, r.member_id, r.export_id, r.what, r.detail)) for r in reversed(rows)]
