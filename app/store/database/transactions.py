"""The interface of a database that runs transactions. `sqlite` and `postgresql` implement it."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic_core import to_json
from sqlalchemy import Connection

from app.store.database.notifications import Notifications

T = TypeVar("T")
Work = Callable[[Connection], T]


class Overtaken(Exception):
    """Another transaction committed a row that this transaction could not see and wanted to insert. Repeat the work."""


class Transactions(Protocol):
    """Runs work in transactions of one database.

    Attributes:
        clock: measures leases; the same for all processes that use the database.
        is_shared: True if several replicas may use the database.
    """

    clock: Callable[[], datetime]
    is_shared: bool

    def notifications(self, on_notification: Callable[[str], None]) -> Notifications | None:
        """Return the notifications that wake other replicas; None if the database can't be shared."""
        ...

    async def write(self, work: Work[T]) -> T:
        """Return the result of `work` once its transaction is committed and synced. Repeat work that was overtaken."""
        ...

    async def change(self, work: Work[T]) -> T:
        """Like `write`, but for work that changes tables: no statement times out."""
        ...

    async def read(self, work: Work[T]) -> T:
        """Return the result of `work`, which sees one snapshot throughout."""
        ...

    async def close(self) -> None:
        """Wait for open transactions, then release all connections."""
        ...


def json_text(value: object) -> str:
    """Return a value as JSON."""
    # Six times as fast as SQLAlchemy's default, which makes a new encoder of the standard library for each value.
    return to_json(value).decode()
