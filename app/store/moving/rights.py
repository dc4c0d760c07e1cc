"""What PostgreSQL says about a database: rights of the user, tables, running replicas."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from app.store.database.dialect import DATABASE_LOCK, LOCK_CLASS

# The statements of the store need it. https://www.postgresql.org/docs/13/release-13.html
OLDEST_SERVER = 13


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do in a database of PostgreSQL.

    Args:
        version: the major version of the server.
        schema: where tables are created; None if the user may use no schema.
        can_create: True if the user may create tables there.
        unusable: our tables that the user may not read and write, and sequences that the user may not use.
        not_owned: our tables of another owner, whose columns the user can't change.
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
    """Return the rights of the connection's user, also on those of the named tables that exist."""
    about = connection.execute(_ABOUT_USER).one()
    of_tables = connection.execute(_RIGHTS, {"tables": list(tables)}).all()
    return Rights(
        about.user,
        about.version,
        about.schema,
        bool(about.can_create),
        tuple(each.name for each in of_tables if not each.is_usable),
        tuple(each.name for each in of_tables if not each.is_owned),
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
