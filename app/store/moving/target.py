"""Fills tables of PostgreSQL: locks out replicas, loads rows in bulk, restores foreign keys and sequences."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, cast, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import AddConstraint, DropConstraint

from app.store.database.dialect import LOCK_DATABASE, is_checked
from app.store.database.unavailable import cause_of
from app.store.moving.rights import count_replicas

# How long a copy waits for the lock. The server keeps the lock of a killed copy until it detects the lost connection.
WAIT_FOR_COPY_SECONDS = 10
SYNC_COMMIT = text("SET LOCAL synchronous_commit = on")
_LOCK_NOT_AVAILABLE = "55P03"
_SESSION_SETTINGS = (
    f"SET lock_timeout = '{WAIT_FOR_COPY_SECONDS}s'",
    # Otherwise the server keeps the session and locks of a killed copy until its statement ends, or for hours if the
    # machine is gone. PostgreSQL 13 does not have the first setting.
    "SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    # If the server crashes, lost rows are copied again, since their progress is lost too. The last commit syncs all.
    "SET synchronous_commit = off",
)


async def lock_out_replicas(connection: AsyncConnection) -> bool:
    """Lock out replicas and other copies while this session lasts. Return False if one of them is running."""
    try:
        for statement in _SESSION_SETTINGS:
            await connection.exec_driver_sql(statement)
        is_free = await connection.run_sync(count_replicas) == 0
        if is_free:
            await connection.exec_driver_sql(LOCK_DATABASE)
        await connection.commit()
    except DBAPIError as error:
        await connection.rollback()
        if getattr(cause_of(error), "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return False
        raise
    return is_free


async def load_rows(connection: AsyncConnection, table: Table, rows: Iterable[Sequence[object]]) -> None:
    """Load rows with COPY, in the open transaction."""
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_records_to_table(table.name, records=rows, columns=[column.name for column in table.columns])


def is_refused_row(error: BaseException) -> bool:
    """Return whether PostgreSQL rejects the content of a row: a value that does not fit, or a violated constraint."""
    return str(getattr(cause_of(error), "sqlstate", None) or "")[:2] in {"22", "23"}


def drop_references(connection: Connection, table: Table) -> None:
    """Drop the foreign keys of a table, because checking them row by row costs more than loading the rows."""
    for constraint in table.foreign_key_constraints:
        connection.execute(DropConstraint(constraint, if_exists=True))


def add_references(connection: Connection, table: Table) -> None:
    """Check the foreign keys of all rows at once, and restore those that PostgreSQL enforces."""
    for constraint in table.foreign_key_constraints:
        # Foreign keys that are not enforced later are checked too, because the loaded rows are checked only here.
        connection.execute(AddConstraint(constraint))
        if not is_checked(connection, constraint):
            connection.execute(DropConstraint(constraint))


def continue_numbering(connection: Connection, table: Table) -> None:
    """Set the sequence of a table's key to continue after the highest key."""
    if table.autoincrement_column is None:
        return
    key = table.autoincrement_column
    quoted = connection.dialect.identifier_preparer.format_table(table)
    next_number = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
    sequence = func.pg_get_serial_sequence(quoted, key.name)
    connection.execute(select(func.setval(cast(sequence, postgresql.REGCLASS), next_number, False)))  # noqa: FBT003 - SQL


def analyze(connection: Connection, table: Table) -> None:
    """Collect statistics, so that the first statements get good plans."""
    connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(table)}")
