"""TODO."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic_core import to_json
from sqlalchemy import (
    Connection,
)

from app.store.database.notifications import Notifications

T = TypeVar("T")
Work = Callable[[Connection], T]


class Overtaken(Exception):
    """Another transaction has just made what this one was about to make, and could not see before: it has to look
    again.
    """


class Transactions(Protocol):
    """Runs work in transactions of one database.

    Attributes:
        clock: the one by which leases are measured: all who use the database have the same.
        is_shared: with other replicas.
        at_once: how many transactions of a group commit go on side by side.
    """

    clock: Callable[[], datetime]
    is_shared: bool
    at_once: int

    def notifications(self, on_notification: Callable[[str], None]) -> "Notifications | None":
        """What wakes other replicas, and us; None where there are no others."""
        ...

    async def write(self, work: Work[T]) -> T:
        """What `work` returns, once its transaction is committed and synced to disk. Work that was overtaken begins
        again.
        """
        ...

    async def change(self, work: Work[T]) -> T:
        """The same for work on the tables themselves, which takes as long as it needs."""
        ...

    async def read(self, work: Work[T]) -> T:
        """What `work` returns, which sees one state throughout."""
        ...

    async def close(self) -> None:
        """Let what is under way end, and give everything back."""
        ...


def _json(value: object) -> str:
    # Six times as fast as the standard library's, which makes its writer anew for each value.
    return to_json(value).decode()
