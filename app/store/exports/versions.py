"""Whether what a process remembers of the exports is still what is stored."""

from sqlalchemy import Connection, literal_column, select, update

from app.store.database.prepared import Prepared
from app.store.schema import versions

_IS_OF_EXPORTS = versions.c.name == literal_column("'exports'")
_VERSION = Prepared(select(versions.c.version).where(_IS_OF_EXPORTS))
_NEXT = update(versions).where(_IS_OF_EXPORTS).values(version=versions.c.version + 1)


def version_of_exports(connection: Connection) -> int:
    """Goes up with every change of an export."""
    (row,) = _VERSION.fetch(connection)
    version: int = row.version
    return version


def exports_change(connection: Connection) -> None:
    """In the transaction that changes one: whoever remembers exports has to read them again."""
    connection.execute(_NEXT)
