"""Every difference between SQLite and PostgreSQL: how each is opened, how its transactions run, and the few statements
that are said in other words.
"""

import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    ForeignKeyConstraint,
    Select,
    Table,
)

from app.store.schema import UNCHECKED_ON_POSTGRESQL

SelectOf = TypeVar("SelectOf", bound=Select[Any])


# What runs for webhooks and calls names the rows that it wants by a key. A plan that was made, and kept, while a table
# was small must not read all of it once it is large, before the server has looked at it again; see `whole_tables`.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


# Each changes nothing, and yet is written and synced.
_TRIALS = {"sqlite": "PRAGMA user_version=0", "postgresql": "SELECT pg_current_xact_id()"}


def try_to_write(connection: Connection) -> None:
    """Write nothing, to see whether that works."""
    connection.exec_driver_sql(_TRIALS[connection.dialect.name])


def lock_table(connection: Connection, table: Table, *, is_exclusive: bool) -> None:
    """Until the end of the transaction, whoever holds a table exclusively and those who share it keep each other
    waiting.

    What is read afterwards is what the other has committed. Who asks for neither passes. SQLite needs nothing for it:
    there one writing transaction follows another anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = "pg_advisory_xact_lock" if is_exclusive else "pg_advisory_xact_lock_shared"
        connection.exec_driver_sql(f"SELECT {lock}({_OURS}, {zlib.crc32(table.name.encode()) & 0x7FFFFFFF})")


# Not the table's own locks: those are also taken by every foreign key that names it.
_OURS = 0x4C53
# The replicas share it for as long as they run.
_IN_USE = 1


def whole_tables(connection: Connection) -> None:
    """Until the end of the transaction, statements may read whole tables in the way that is fastest for that."""
    if connection.dialect.name == "postgresql":
        for name in _BY_KEY:
            connection.exec_driver_sql(f"SET LOCAL {name} = on")


def lock_row(statement: SelectOf) -> SelectOf:
    """A SELECT whose rows nobody else changes until the end of the transaction; foreign keys may still name them."""
    return statement.with_for_update(key_share=True)


def leave_room(connection: Connection, table: str, *, filled_percent: int) -> None:
    """Fill new pages of a table only so far. PostgreSQL writes a row anew where it is updated; where the page has
    room for it, and no column of an index changed, no index is touched. SQLite updates in place.
    """
    # https://www.postgresql.org/docs/current/storage-hot.html
    if connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.exec_driver_sql(f"ALTER TABLE {quoted} SET (fillfactor = {filled_percent})")


def is_checked(connection: Connection, reference: ForeignKeyConstraint) -> bool:
    """Whether the database itself sees to it that what rows refer to is there.

    Some references PostgreSQL does not check: for each new row of a webhook it would lock the row of the export, for
    all transactions at once, and so keep a sixth fewer webhooks a second.
    """
    # https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS (FOR KEY SHARE)
    is_postgresql = connection.dialect.name == "postgresql"
    return not (is_postgresql and any(each.info == UNCHECKED_ON_POSTGRESQL for each in reference.elements))


def stop_checking(connection: Connection, references: Mapping[str, str]) -> None:
    """Drop references that PostgreSQL does not check any more; SQLite goes on with them. It fails where others keep it
    waiting, and may be tried again.

    Args:
        references: table → the name of its reference.
    """
    if connection.dialect.name != "postgresql":
        return
    # It waits for all who use the tables, and whoever comes meanwhile waits for it: not for long. Where each has what
    # the other waits for, it gives up before the server looks for somebody who has to.
    # https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT (1 s)
    connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
    quote = connection.dialect.identifier_preparer.quote
    for table, reference in references.items():
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP CONSTRAINT IF EXISTS {quote(reference)}")


TRY_TO_SHARE = f"SELECT pg_try_advisory_lock_shared({_OURS}, {_IN_USE})"
"""
For a replica, on a connection that it keeps for as long as it runs: false while a copy goes into the database.
"""
