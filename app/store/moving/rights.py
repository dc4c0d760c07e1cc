"""Reads the rights of the user, the tables and the running replicas of a PostgreSQL database."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.store.database.dialect import DATABASE_LOCK, LOCK_CLASS

# The statements of the store need this version. https://www.postgresql.org/docs/13/release-13.html
OLDEST_SERVER = 13


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a user in a PostgreSQL database.

    Args:
        version: the major version of the server.
        schema: where tables are created; None if the user may use no schema.
        can_create: True if the user may create tables there.
        unusable: our tables that the user may not read and write, and our sequences that the user may not use.
        not_owned: our tables that another user owns, so that this user can't change their columns.
        is_read_only: True if no transaction can write.
    """

    user: str
    version: int
    schema: str | None
    can_create: bool
    unusable: tuple[str, ...]
    not_owned: tuple[str, ...]
    is_read_only: bool


def rights_in(connection: Connection, tables: Collection[str]) -> Rights:
    """Return the rights of the connection's user in general and on the given tables, as far as they exist."""
    about = connection.execute(_ABOUT_USER).one()
    found = connection.execute(_RIGHTS, {"tables": list(tables)}).all()
    return Rights(
        about.user,
        about.version,
        about.schema,
        bool(about.can_create),
        tuple(table.name for table in found if not table.is_usable),
        tuple(table.name for table in found if not table.is_owned),
        about.is_read_only,
    )


def tables_in(connection: Connection) -> set[str]:
    """Return the tables of the current schema, without those of extensions."""
    return set(connection.scalars(_TABLES))


def count_replicas(connection: Connection) -> int:
    """Return how many replicas of the service run on the database."""
    return connection.scalar(_REPLICAS) or 0


_ABOUT_USER = text(
    "SELECT current_user AS user, current_schema() AS schema,"
    " current_setting('server_version_num')::int / 10000 AS version,"
    " has_schema_privilege(current_schema(), 'CREATE') AS can_create,"
    " current_setting('transaction_read_only') = 'on' AS is_read_only"
)
_RIGHTS = text(
    "SELECT rel.relname AS name, pg_has_role(rel.relowner, 'USAGE') AS is_owned,"
    " CASE rel.relkind WHEN 'S' THEN has_sequence_privilege(rel.oid, 'USAGE')"
    " ELSE has_table_privilege(rel.oid, 'SELECT') AND has_table_privilege(rel.oid, 'INSERT')"
    " AND has_table_privilege(rel.oid, 'UPDATE') AND has_table_privilege(rel.oid, 'DELETE') END AS is_usable"
    " FROM pg_class rel"
    # A sequence belongs to the column that it numbers.
    " LEFT JOIN pg_depend ON rel.relkind = 'S' AND classid = 'pg_class'::regclass AND objid = rel.oid"
    " AND deptype IN ('a', 'i')"
    " LEFT JOIN pg_class numbered ON numbered.oid = refobjid"
    " WHERE rel.relnamespace = current_schema()::regnamespace"
    " AND CASE rel.relkind WHEN 'S' THEN numbered.relname WHEN 'r' THEN rel.relname WHEN 'p' THEN rel.relname END"
    " = ANY (:tables) ORDER BY rel.relname"
)
_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid"
    " AND deptype = 'e')"
)
_REPLICAS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
    " AND classid = :class AND objid = :lock AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(**{"class": LOCK_CLASS, "lock": DATABASE_LOCK})
