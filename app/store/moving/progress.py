"""The progress of a copy, stored in a table of the target. While the table exists, no service starts there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, Text, inspect, select, update

from app.domain.errors import BadSettings

# Not a table of the service: a copy creates and drops it, and migrations do not include it.
copying = Table(
    "copying",
    MetaData(),
    Column("table_name", String(64), primary_key=True),
    # Number of copied rows, and the key of the last one as JSON; null before the first row.
    Column("rows", BigInteger, nullable=False),
    Column("last_key", Text),
    # Digest and path of the source file.
    Column("fingerprint", String(64), nullable=False),
    Column("source", Text, nullable=False),
)

Key = Sequence[object]


@dataclass(frozen=True, slots=True)
class Progress:
    """Number of copied rows of one table, and the key of the last one; None before the first row."""

    rows: int = 0
    last_key: Key | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A copy that was started and not finished.

    Args:
        fingerprint: digest of the source file.
        source: path of the source file.
        tables: the progress of each table.
    """

    fingerprint: str
    source: str
    tables: dict[str, Progress]


def require_no_copy(connection: Connection) -> None:
    """Check that the database is complete.

    Raises:
        BadSettings: a copy into the database is not finished.
    """
    if is_unfinished(connection):
        raise BadSettings(
            "The database that DATABASE_URL names is incomplete: a copy into it is not finished, so run the same copy "
            "command again."
        )


def is_unfinished(connection: Connection) -> bool:
    """Return whether a copy into the database is not finished."""
    return inspect(connection).has_table(copying.name)


def begin(connection: Connection, tables: Sequence[Table], *, fingerprint: str, source: str) -> None:
    """Create the progress table, with no row copied yet."""
    copying.create(connection)
    about = {"rows": 0, "fingerprint": fingerprint, "source": source}
    connection.execute(copying.insert(), [{"table_name": table.name, **about} for table in tables])


def unfinished(connection: Connection) -> Unfinished | None:
    """Return the unfinished copy; None if there is none."""
    if not is_unfinished(connection):
        return None
    rows = connection.execute(select(copying)).all()
    tables = {
        row.table_name: Progress(row.rows, None if row.last_key is None else json.loads(row.last_key)) for row in rows
    }
    return Unfinished(rows[0].fingerprint, rows[0].source, tables)


def advance(connection: Connection, table: Table, progress: Progress) -> None:
    """Record progress, in the transaction that copies the rows."""
    statement = update(copying).where(copying.c.table_name == table.name)
    connection.execute(statement.values(rows=progress.rows, last_key=json.dumps(progress.last_key)))


def finish(connection: Connection) -> None:
    """Drop the progress table: the database is complete."""
    copying.drop(connection)
