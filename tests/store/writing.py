"""Work that writes and counts rows, for tests of transactions."""

from collections.abc import Callable

from sqlalchemy import Connection, func, select, text

from app.store.schema import unexported

NAMES = ("a", "b", "c")
_ADD = text("insert into unexported values (:name, 'slug', 1, 0)")
_COUNT = select(func.count()).select_from(unexported)


def add(connection: Connection, *, name: str) -> None:
    connection.execute(_ADD, {"name": name})


def count(connection: Connection) -> int:
    """Return the number of rows."""
    return connection.scalar(_COUNT) or 0


def adding(stop: Callable[[Connection], None], *, after: int) -> Callable[[Connection], None]:
    """Return work that writes a row for each of `NAMES`, and calls `stop` after `after` rows."""

    def write(connection: Connection) -> None:
        for number, name in enumerate(NAMES):
            if number == after:
                stop(connection)
            add(connection, name=name)

    return write
