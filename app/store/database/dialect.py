"""Locks, planner settings and constraints that SQLite and PostgreSQL treat differently."""

import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, ForeignKeyConstraint, Select, Table

from app.store.schema import UNCHECKED_ON_POSTGRESQL

SelectOf = TypeVar("SelectOf", bound=Select[Any])

# Settings of PostgreSQL's planner. Statements for webhooks and calls find their rows by key. A plan that was cached
# while a table was small must not scan the table once it is large. `allow_table_scans` makes exceptions.
ONLY_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

# These statements change no data, but are written and synced.
_TRIALS = {"sqlite": "PRAGMA user_version=0", "postgresql": "SELECT pg_current_xact_id()"}

# An advisory lock of PostgreSQL has two numbers: one for this service, and the checksum of a table or this number.
LOCK_CLASS = 0x4C53
DATABASE_LOCK = 1
# Each running replica holds this lock in shared mode. A copy into the database takes it exclusively.
SHARE_DATABASE = f"SELECT pg_advisory_lock_shared({LOCK_CLASS}, {DATABASE_LOCK})"
TRY_TO_SHARE_DATABASE = f"SELECT pg_try_advisory_lock_shared({LOCK_CLASS}, {DATABASE_LOCK})"
LOCK_DATABASE = f"SELECT pg_advisory_lock({LOCK_CLASS}, {DATABASE_LOCK})"


def try_to_write(connection: Connection) -> None:
    """Write and sync a transaction without content, to check that writes work."""
    connection.exec_driver_sql(_TRIALS[connection.dialect.name])


def lock_table(connection: Connection, table: Table, *, is_exclusive: bool) -> None:
    """Lock a table until the end of the transaction, in exclusive or shared mode.

    Later reads of the transaction see all commits of earlier holders. Transactions that do not take the lock are not
    affected. SQLite needs no lock, since its writing transactions run one after the other.
    """
    if connection.dialect.name == "postgresql":
        # An advisory lock, because checks of foreign keys also take the table's own lock.
        lock = "pg_advisory_xact_lock" if is_exclusive else "pg_advisory_xact_lock_shared"
        checksum = zlib.crc32(table.name.encode()) & 0x7FFFFFFF
        connection.exec_driver_sql(f"SELECT {lock}({LOCK_CLASS}, {checksum})")


def allow_table_scans(connection: Connection) -> None:
    """Allow table scans until the end of the transaction. They are fastest for reading most rows of a table."""
    if connection.dialect.name == "postgresql":
        for name in ONLY_BY_KEY:
            connection.exec_driver_sql(f"SET LOCAL {name} = on")


def lock_row(statement: SelectOf) -> SelectOf:
    """Return a SELECT that locks its rows until the end of the transaction. New rows may still refer to them."""
    return statement.with_for_update(key_share=True)


def leave_room(connection: Connection, table: str, *, filled_percent: int) -> None:
    """Limit the fill of new pages of a table, so that PostgreSQL can update rows within their page.

    An update within the page that changes no indexed column updates no index. SQLite always updates in place.
    https://www.postgresql.org/docs/current/storage-hot.html
    """
    if connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.exec_driver_sql(f"ALTER TABLE {quoted} SET (fillfactor = {filled_percent})")


def is_checked(connection: Connection, reference: ForeignKeyConstraint) -> bool:
    """Return whether the database enforces a foreign key.

    PostgreSQL does not enforce some references to exports. Each new row of a webhook would lock the row of its export,
    and the service would accept a sixth fewer webhooks per second.

    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS (FOR KEY SHARE)
    """
    is_postgresql = connection.dialect.name == "postgresql"
    return not (is_postgresql and any(element.info == UNCHECKED_ON_POSTGRESQL for element in reference.elements))


def stop_checking(connection: Connection, references: Mapping[str, str]) -> None:
    """Drop foreign keys on PostgreSQL; SQLite keeps them. Fails if a table is locked for long, and may be repeated.

    Args:
        references: table → name of its foreign key.
    """
    if connection.dialect.name != "postgresql":
        return
    # This waits for all users of the tables, and new users wait for it, so the wait must be short. In a deadlock it
    # gives up before the server ends one of the transactions (after 1 s).
    # https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT
    connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
    quote = connection.dialect.identifier_preparer.quote
    for table, reference in references.items():
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP CONSTRAINT IF EXISTS {quote(reference)}")
