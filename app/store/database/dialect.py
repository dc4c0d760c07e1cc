"""Locks, planner settings and constraints that SQLite and PostgreSQL treat differently."""

import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, ForeignKeyConstraint, Select, Table

from app.store.schema import UNCHECKED_ON_POSTGRESQL

SelectOf = TypeVar("SelectOf", bound=Select[Any])

# Settings of PostgreSQL's planner. Statements for webhooks and calls name their rows by key. A plan that was cached
# while a table was small must not scan the table once it is large. See `allow_table_scans` for the exceptions.
ONLY_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

# Each changes nothing, and yet is written and synced.
_TRIALS = {"sqlite": "PRAGMA user_version=0", "postgresql": "SELECT pg_current_xact_id()"}

# Advisory locks of PostgreSQL have two numbers: the service's own, and the checksum of a table or this one.
LOCK_CLASS = 0x4C53
DATABASE_LOCK = 1
# Each replica shares this lock, on a connection that it keeps while it runs; a copy into the database excludes them.
SHARE_DATABASE = f"SELECT pg_advisory_lock_shared({LOCK_CLASS}, {DATABASE_LOCK})"
TRY_TO_SHARE_DATABASE = f"SELECT pg_try_advisory_lock_shared({LOCK_CLASS}, {DATABASE_LOCK})"
LOCK_DATABASE = f"SELECT pg_advisory_lock({LOCK_CLASS}, {DATABASE_LOCK})"


def try_to_write(connection: Connection) -> None:
    """Write and sync a transaction without content, to see whether that works."""
    connection.exec_driver_sql(_TRIALS[connection.dialect.name])


def lock_table(connection: Connection, table: Table, *, is_exclusive: bool) -> None:
    """Lock a table until the end of the transaction: an exclusive holder excludes all others, shared holders do not.

    What the transaction reads afterwards includes what earlier holders committed. Transactions that do not ask for
    the lock are not affected. SQLite needs no lock, since its writing transactions follow one another.
    """
    if connection.dialect.name == "postgresql":
        # An advisory lock: every foreign key that names the table takes the table's own lock too.
        lock = "pg_advisory_xact_lock" if is_exclusive else "pg_advisory_xact_lock_shared"
        checksum = zlib.crc32(table.name.encode()) & 0x7FFFFFFF
        connection.exec_driver_sql(f"SELECT {lock}({LOCK_CLASS}, {checksum})")


def allow_table_scans(connection: Connection) -> None:
    """Let statements scan whole tables until the end of the transaction, which is fastest for most of their rows."""
    if connection.dialect.name == "postgresql":
        for name in ONLY_BY_KEY:
            connection.exec_driver_sql(f"SET LOCAL {name} = on")


def lock_row(statement: SelectOf) -> SelectOf:
    """Return a SELECT that locks its rows until the end of the transaction; foreign keys may still refer to them."""
    return statement.with_for_update(key_share=True)


def leave_room(connection: Connection, table: str, *, filled_percent: int) -> None:
    """Fill new pages of a table only to this percentage, so that PostgreSQL can update rows within their page.

    An update within the page that changes no indexed column updates no index. SQLite always updates in place.
    https://www.postgresql.org/docs/current/storage-hot.html
    """
    if connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.exec_driver_sql(f"ALTER TABLE {quoted} SET (fillfactor = {filled_percent})")


def is_checked(connection: Connection, reference: ForeignKeyConstraint) -> bool:
    """True if the database enforces a foreign key.

    PostgreSQL does not enforce some references to exports: it would lock the row of the export for each new row of
    a webhook, for all transactions at once, and the service would accept a sixth fewer webhooks per second.
    https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS (FOR KEY SHARE)
    """
    is_postgresql = connection.dialect.name == "postgresql"
    return not (is_postgresql and any(each.info == UNCHECKED_ON_POSTGRESQL for each in reference.elements))


def stop_checking(connection: Connection, references: Mapping[str, str]) -> None:
    """Drop foreign keys on PostgreSQL; SQLite keeps them. Fails, and may be repeated, if a table is locked for long.

    Args:
        references: table → name of its foreign key.
    """
    if connection.dialect.name != "postgresql":
        return
    # This waits for all users of the tables, and new ones wait for it, so the wait must be short. In a deadlock it
    # gives up before the server (after 1 s) chooses a victim.
    # https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT
    connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
    quote = connection.dialect.identifier_preparer.quote
    for table, reference in references.items():
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP CONSTRAINT IF EXISTS {quote(reference)}")
