"""TODO."""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Engine,
    Float,
    Integer,
    String,
    Table,
    cast,
    create_engine,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import AddConstraint, DropConstraint
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.store.database.dialect import _IN_USE, _OURS, is_checked
from app.store.database.postgresql import _postgresql_engine
from app.store.database.timeouts import WAIT_SECONDS
from app.store.database.unavailable import cause_of

# ------ Looking at a database without changing it, and moving one from SQLite to PostgreSQL ------

# What the statements of the store need. https://www.postgresql.org/docs/13/release-13.html
OLDEST_SERVER = 13
# So long a copy waits for the database: one that was killed holds it until the server has noticed.
WAIT_FOR_COPY_SECONDS = 10


def engine_to_look(path: Path, *, stands_still: bool) -> Engine:
    """Reads an SQLite file and changes nothing, in it or beside it. (SQLite may set up anew the -shm file of a service
    that was killed; it holds no data.)

    Args:
        stands_still: nobody has it open.
    """
    # Opened in the ordinary way SQLite would make its -wal and -shm files, also to read only. What nobody has open and
    # has no -wal can be told to stand still. https://www.sqlite.org/uri.html#uriimmutable
    has_wal = path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if stands_still and not has_wal else "mode=ro"
    address = f"file:{quote(str(path.absolute()))}?{mode}"
    # One statement follows another, if not always in the same thread.
    connect = partial(sqlite3.connect, address, uri=True, timeout=WAIT_SECONDS, check_same_thread=False)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def engine_to_fill(url: URL, longest_seconds: float | None = None) -> AsyncEngine:
    """Connections to PostgreSQL that are not kept: each is one session from beginning to end.

    Args:
        longest_seconds: that a statement may take; None for as long as it needs.
    """
    return _postgresql_engine(url, longest_seconds, poolclass=NullPool)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do in a database of PostgreSQL.

    Args:
        version: of the server, its first number.
        schema: where tables are made; None where there is no schema that the user may look into.
        can_make: tables in it.
        unusable: tables of ours that the user may not read and write, and sequences that number them.
        not_owned: tables of ours that another one owns, so that this one can't change their columns.
        is_read_only: no transaction can write.
    """

    user: str
    version: int
    schema: str | None
    can_make: bool
    unusable: tuple[str, ...]
    not_owned: tuple[str, ...]
    is_read_only: bool


def rights_in(connection: Connection, tables: Collection[str]) -> Rights:
    """Those of the user of a connection to PostgreSQL.

    Args:
        tables: names of ours.
    """
    about = connection.execute(_ABOUT_USER).one()
    of_tables = connection.execute(_RIGHTS, {"tables": list(tables)}).all()
    return Rights(
        about.user,
        about.version,
        about.schema,
        bool(about.can_make),
        tuple(each.name for each in of_tables if not each.is_usable),
        tuple(each.name for each in of_tables if not each.is_owned),
        about.is_read_only,
    )


_ABOUT_USER = text(
    "SELECT current_user AS user, current_schema() AS schema,"
    " current_setting('server_version_num')::int / 10000 AS version,"
    " has_schema_privilege(current_schema(), 'CREATE') AS can_make,"
    " current_setting('transaction_read_only') = 'on' AS is_read_only"
)
_RIGHTS = text(
    "SELECT one.relname AS name, pg_has_role(one.relowner, 'USAGE') AS is_owned,"
    " CASE one.relkind WHEN 'S' THEN has_sequence_privilege(one.oid, 'USAGE')"
    " ELSE has_table_privilege(one.oid, 'SELECT') AND has_table_privilege(one.oid, 'INSERT')"
    " AND has_table_privilege(one.oid, 'UPDATE') AND has_table_privilege(one.oid, 'DELETE') END AS is_usable"
    " FROM pg_class one"
    # A sequence belongs to the column that it numbers.
    " LEFT JOIN pg_depend ON one.relkind = 'S' AND classid = 'pg_class'::regclass AND objid = one.oid"
    " AND deptype IN ('a', 'i')"
    " LEFT JOIN pg_class numbered ON numbered.oid = refobjid"
    " WHERE one.relnamespace = current_schema()::regnamespace"
    " AND CASE one.relkind WHEN 'S' THEN numbered.relname WHEN 'r' THEN one.relname WHEN 'p' THEN one.relname END"
    " = ANY (:tables) ORDER BY one.relname"
)


def tables_in(connection: Connection) -> set[str]:
    """The tables where PostgreSQL would make ours, without those of its extensions."""
    return set(connection.scalars(_TABLES))


_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid"
    " AND deptype = 'e')"
)


def count_replicas(connection: Connection) -> int:
    """How many processes of the service run on the database of PostgreSQL."""
    return connection.scalar(_REPLICAS) or 0


_REPLICAS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
    " AND classid = :ours AND objid = :in_use AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(ours=_OURS, in_use=_IN_USE)


async def take_alone(connection: AsyncConnection) -> bool:
    """Keep replicas and other copies away for as long as this session of PostgreSQL lives. False if one of them is
    there.
    """
    try:
        for statement in _SETTLE_IN:
            await connection.exec_driver_sql(statement)
        is_free = await connection.run_sync(count_replicas) == 0
        if is_free:
            await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_OURS}, {_IN_USE})")
        await connection.commit()
    except DBAPIError as error:
        await connection.rollback()
        if getattr(cause_of(error), "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return False
        raise
    return is_free


_LOCK_NOT_AVAILABLE = "55P03"
_SETTLE_IN = (
    f"SET lock_timeout = '{WAIT_FOR_COPY_SECONDS}s'",
    # Of a copy that was killed, or whose machine is gone, the server would keep the session, and what it holds, until
    # the end of a long statement, or for hours. PostgreSQL 13 does not know the first of these.
    "SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    # What is lost with the server's last moments is copied again, and the progress with it; what ends the copy syncs
    # all that went before it.
    "SET synchronous_commit = off",
)
SYNC_COMMIT = text("SET LOCAL synchronous_commit = on")


async def pour(connection: AsyncConnection, table: Table, rows: Iterable[Sequence[object]]) -> None:
    """Put rows as SQLite has them into a table of PostgreSQL, in the transaction that has begun."""
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_records_to_table(table.name, records=rows, columns=[each.name for each in table.columns])


def is_refusal(error: BaseException) -> bool:
    """Whether PostgreSQL refuses a row for what it holds: a value that does not fit, or a rule that it breaks."""
    return str(getattr(cause_of(error), "sqlstate", None) or "")[:2] in {"22", "23"}


def as_poured(table: Table) -> list[tuple[int, Callable[[Any], Any]]]:
    """What becomes of values as SQLite has them before they are poured, by their places; all others stay as they are.

    Raises:
        TypeError: nobody has said yet how columns of this type are brought over.
    """
    places: list[tuple[int, Callable[[Any], Any]]] = []
    for place, each in enumerate(table.columns):
        type_: TypeEngine[Any] = each.type.impl_instance if isinstance(each.type, TypeDecorator) else each.type
        if isinstance(type_, Boolean):
            places.append((place, bool))
        # JSON is a text on both sides, and a moment a whole number.
        elif not isinstance(type_, JSON | String | Integer | Float):
            raise TypeError(f"{table.name}.{each.name} is of type {each.type!r}, which can't be copied.")
    return places


def drop_references(connection: Connection, table: Table) -> None:
    """Let PostgreSQL not look for what each row of a table refers to, which costs more than the row; see
    `add_references`.
    """
    for each in table.foreign_key_constraints:
        connection.execute(DropConstraint(each, if_exists=True))


def add_references(connection: Connection, table: Table) -> None:
    """Let PostgreSQL look for what all rows of a table refer to, at once, and keep to what is checked from then on."""
    for each in table.foreign_key_constraints:
        # Also what is not checked later: nobody else looks at the rows that were brought over.
        connection.execute(AddConstraint(each))
        if not is_checked(connection, each):
            connection.execute(DropConstraint(each))


def number_on(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows of a table after those that were given numbers."""
    if table.autoincrement_column is None:
        return
    key = table.autoincrement_column
    quoted = connection.dialect.identifier_preparer.format_table(table)
    next_number = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
    sequence = func.pg_get_serial_sequence(quoted, key.name)
    connection.execute(select(func.setval(cast(sequence, postgresql.REGCLASS), next_number, False)))  # noqa: FBT003


def learn_sizes(connection: Connection, table: Table) -> None:
    """Let PostgreSQL look at what is in a table, so that it chooses good plans from the first statement on."""
    connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(table)}")
