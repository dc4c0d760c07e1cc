"""The version number of the exports.

Replicas of version 0.1 cache the exports, and read them again when this number increases. They may run beside this
version during an upgrade.
"""

from sqlalchemy import Connection, literal_column, update

from app.store.schema import versions

_NEXT = update(versions).where(versions.c.name == literal_column("'exports'")).values(version=versions.c.version + 1)


def bump_exports_version(connection: Connection) -> None:
    """Increase the version number, in the transaction that changes an export."""
    connection.execute(_NEXT)
