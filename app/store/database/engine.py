"""The database: runs work in transactions, in the same way on SQLite and PostgreSQL."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.engine import URL

from app.domain.errors import StoreUnavailable
from app.store.database.dialect import try_to_write
from app.store.database.notifications import Notifications
from app.store.database.postgresql import PostgresqlTransactions
from app.store.database.sqlite import SqliteTransactions
from app.store.database.transactions import Transactions
from app.store.database.url import parse_url

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# On a full disk small transactions may still fit, so no trial write is made for this long after a failed write.
RECENT_SECONDS = 5
TRIAL_SECONDS = 1


class Database:
    """Runs functions that take a connection, each in one transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._refused_at: float | None = None
        self._trial: asyncio.Task[None] | None = None
        self._is_closed = False

    @classmethod
    def open(cls, url: str, *, is_exclusive: bool = True) -> Self:
        """Open the database that `DATABASE_URL` names, without reading from it.

        A missing SQLite file is created with mode 0600. A file lock reserves it for one process.

        Raises:
            BadSettings: the URL is not supported, another process holds the file, or the driver is not installed.
        """
        return cls(open_transactions(parse_url(url), is_exclusive=is_exclusive))

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock that measures leases. It is the same for all processes that use the database."""
        return self._transactions.clock

    @property
    def is_shared(self) -> bool:
        """True if several replicas may use the database."""
        return self._transactions.is_shared

    def notifications(self, on_notification: Callable[[str], None]) -> Notifications | None:
        """Return the notifications that wake other replicas; None if the database can't be shared."""
        return self._transactions.notifications(on_notification)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return the result of `work` once its transaction is committed and synced to disk.

        If `work` raises, the transaction is rolled back.

        Raises:
            StoreUnavailable: the disk is full, the file is locked, or the database can't be reached. If the connection
                was lost during the commit, either all of the work was stored or nothing.
        """
        self._require_open()
        try:
            return await self._transactions.write(work)
        except StoreUnavailable:
            self._refused_at = time.monotonic()
            raise

    async def change(self, work: Callable[[Connection], T]) -> T:
        """Like `write`, but for work that changes tables: no statement times out."""
        self._require_open()
        return await self._transactions.change(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return the result of `work`, which may only read and sees one snapshot throughout.

        Raises:
            StoreUnavailable: the database can't be reached.
        """
        self._require_open()
        return await self._transactions.read(work)

    async def rows(self, statement: Select[*Ts]) -> Sequence[Row[*Ts]]:
        """Return all rows of one SELECT."""
        return await self.read(lambda connection: connection.execute(statement).all())

    async def ping(self) -> None:
        """Check that the database answers and, after a failed write, that it accepts writes again.

        Raises:
            StoreUnavailable: it does not answer, a write failed in the last 5 seconds, or a trial write fails.
        """
        await self.rows(select(1))
        if self._refused_at is not None and time.monotonic() - self._refused_at >= RECENT_SECONDS:
            # All callers share one trial. It may wait for a lock longer than its callers wait.
            if self._trial is None or self._trial.done():
                self._trial = asyncio.create_task(self._try_to_write())
            await asyncio.wait({self._trial}, timeout=TRIAL_SECONDS)
        if self._refused_at is not None:
            raise StoreUnavailable("The database does not accept writes.")

    async def close(self) -> None:
        """Wait for open transactions, then release the file or the connections."""
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
    """Return the transactions of the database that a URL names, without reading from it.

    Raises:
        BadSettings: another process holds the SQLite file, or the driver is not installed.
    """
    if url.get_backend_name() == "postgresql":
        return PostgresqlTransactions(url)
    return SqliteTransactions(url, is_exclusive=is_exclusive)
