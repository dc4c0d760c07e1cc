"""The database as the rest of the store uses it: work in transactions, the same on SQLite and on PostgreSQL."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self, TypeVar, TypeVarTuple

from sqlalchemy import (
    Connection,
    Row,
    Select,
    select,
)
from sqlalchemy.engine import URL

from app.domain.errors import StoreUnavailable
from app.store.database.dialect import try_to_write
from app.store.database.notifications import Notifications
from app.store.database.postgresql import Pool
from app.store.database.sqlite import OneWriter
from app.store.database.transactions import Transactions
from app.store.database.url import parse_url

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# On a full disk small transactions may still fit: one that works says nothing for so long after one that failed.
RECENT_SECONDS = 5
TRIAL_SECONDS = 1


class Database:
    """Transactions. What is done in one is an ordinary function of a connection.

    Open it with `Database.open(url)`; close it with `close()`.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._refused_at: float | None = None
        self._trial: asyncio.Task[None] | None = None
        self._is_closed = False

    @classmethod
    def open(cls, url: str, *, is_exclusive: bool = True) -> Self:
        """The database that `DATABASE_URL` names; nothing is read yet.

        An SQLite file is made if need be, readable by its owner alone, and held by a file lock: one process owns it.

        Raises:
            BadSettings: the URL is of neither kind, another process holds the file, or the driver is missing.
        """
        return cls(open_transactions(parse_url(url), is_exclusive=is_exclusive))

    @property
    def clock(self) -> Callable[[], datetime]:
        """The one by which leases are measured: all who use the database have the same."""
        return self._transactions.clock

    @property
    def is_shared(self) -> bool:
        """Whether other replicas may use it too."""
        return self._transactions.is_shared

    @property
    def at_once(self) -> int:
        """How many transactions of a group commit go on side by side."""
        return self._transactions.at_once

    def notifications(self, on_notification: Callable[[str], None]) -> Notifications | None:
        """What wakes other replicas; None where there are none."""
        return self._transactions.notifications(on_notification)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once its transaction is committed and synced to disk; if it raises, nothing of it is
        kept.

        Raises:
            StoreUnavailable: the disk is full, the file is locked, or the database can't be reached. Where that was
                lost while it committed, everything of the work was kept, or nothing.
        """
        self._require_open()
        try:
            return await self._transactions.write(work)
        except StoreUnavailable:
            self._refused_at = time.monotonic()
            raise

    async def change(self, work: Callable[[Connection], T]) -> T:
        """The same for work on the tables themselves, which takes as long as it needs."""
        self._require_open()
        return await self._transactions.change(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns; it only reads, and sees one state throughout.

        Raises:
            StoreUnavailable: the database can't be reached.
        """
        self._require_open()
        return await self._transactions.read(work)

    async def rows(self, statement: Select[*Ts]) -> Sequence[Row[*Ts]]:
        """All rows of one SELECT."""
        return await self.read(lambda connection: connection.execute(statement).all())

    async def ping(self) -> None:
        """Ask the database for nothing; after a write that failed also whether it takes writes again.

        Raises:
            StoreUnavailable: it does not answer, a write failed in the last 5 seconds, or a trial does not work.
        """
        await self.rows(select(1))
        if self._refused_at is not None and time.monotonic() - self._refused_at >= RECENT_SECONDS:
            # One trial for all who ask; it may wait for a lock for longer than they should.
            if self._trial is None or self._trial.done():
                self._trial = asyncio.create_task(self._try_to_write())
            await asyncio.wait({self._trial}, timeout=TRIAL_SECONDS)
        if self._refused_at is not None:
            raise StoreUnavailable("The database takes no writes.")

    async def close(self) -> None:
        """Give everything back."""
        if self._trial is not None:
            await asyncio.wait({self._trial})
        self._is_closed = True
        await self._transactions.close()

    async def _try_to_write(self) -> None:
        with suppress(StoreUnavailable):
            await self.write(try_to_write)
            self._refused_at = None

    def _require_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("The database is closed.")


def open_transactions(url: URL, *, is_exclusive: bool) -> Transactions:
    """Those of the database that an URL names; nothing is read yet.

    Raises:
        BadSettings: another process holds the SQLite file, or the driver is missing.
    """
    if url.get_backend_name() == "postgresql":
        return Pool(url)
    return OneWriter(url, is_exclusive=is_exclusive)
