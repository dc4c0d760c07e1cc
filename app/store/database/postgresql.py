"""PostgreSQL: transactions run side by side, in this replica and in others."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json
from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.domain.errors import BadSettings
from app.store.database.clock import StoreClock
from app.store.database.dialect import ONLY_BY_KEY
from app.store.database.notifications import Notifications
from app.store.database.timeouts import LONGEST_STATEMENT_SECONDS, WAIT_SECONDS
from app.store.database.transactions import Overtaken, T, Work, json_text
from app.store.database.unavailable import raise_unavailable

# Connections of one replica, for readers and writers together. `Notifications` has one more.
CONNECTIONS = 16


class PostgresqlTransactions:
    """Transactions of a connection pool, on the event loop. Implements `Transactions`."""

    def __init__(self, url: URL) -> None:
        self._clock = StoreClock()
        self.clock: Callable[[], datetime] = self._clock
        self.is_shared = True
        self._url = url
        self._engine = _engine(
            url,
            LONGEST_STATEMENT_SECONDS,
            ONLY_BY_KEY,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_use_lifo=True,
        )
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._open: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[T]) -> T:
        return await self._shielded(self._until_not_overtaken(work))

    async def change(self, work: Work[T]) -> T:
        engine = unpooled_engine(self._url)
        try:
            return await self._shielded(self._in_transaction(engine, work))
        finally:
            await engine.dispose()

    async def read(self, work: Work[T]) -> T:
        return await self._shielded(self._in_transaction(self._reading, work))

    async def close(self) -> None:
        while self._open:
            await asyncio.wait(self._open)
        await self._engine.dispose()

    def notifications(self, on_notification: Callable[[str], None]) -> Notifications | None:
        return Notifications(self._engine, self._url, on_notification)

    async def _shielded(self, transaction: Coroutine[Any, Any, T]) -> T:
        # A cancelled caller must not cancel its transaction, because the connection would be lost.
        task = asyncio.create_task(transaction)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return await asyncio.shield(task)

    async def _until_not_overtaken(self, work: Work[T]) -> T:
        while True:
            with suppress(Overtaken):
                return await self._in_transaction(self._engine, work)

    async def _in_transaction(self, engine: AsyncEngine, work: Work[T]) -> T:
        with raise_unavailable():
            if self._clock.is_old:
                await self._read_clock()
            async with engine.begin() as connection:
                return await connection.run_sync(work)

    async def _read_clock(self) -> None:
        # This also detects a connection that was cut while it was idle. Nothing is lost, so try another connection.
        try:
            await self._read_clock_once()
        except (DBAPIError, OSError):
            await self._read_clock_once()

    async def _read_clock_once(self) -> None:
        async with self._reading.begin() as connection:
            asked_at = time.monotonic()
            shown: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            self._clock.learn(shown, asked_at, time.monotonic())


def unpooled_engine(url: URL, longest_seconds: float | None = None) -> AsyncEngine:
    """Return an engine that opens a new session for each connection.

    Args:
        longest_seconds: the time limit of a statement; None for no limit.
    """
    return _engine(url, longest_seconds, poolclass=NullPool)


def _engine(
    url: URL,
    longest_seconds: float | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    **pool: Any,  # noqa: ANN401 - SQLAlchemy's arguments
) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url,
            hide_parameters=True,
            json_serializer=json_text,
            json_deserializer=from_json,
            connect_args={
                "timeout": WAIT_SECONDS,
                "command_timeout": longest_seconds,
                "server_settings": {
                    "application_name": "lytics-sailthru",
                    "lock_timeout": str(WAIT_SECONDS * 1000),
                    # The server ends the transaction of a replica that hangs, so that others get its locks.
                    "idle_in_transaction_session_timeout": str(LONGEST_STATEMENT_SECONDS * 1000),
                    # Compiling a plan takes longer than running these statements.
                    "jit": "off",
                    **settings,
                },
            },
            **pool,
        )
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"DATABASE_URL names a PostgreSQL database, but the package {error.name!r} is not installed: install "
            "lytics-sailthru[postgres]."
        ) from None
    event.listen(engine.sync_engine, "connect", _sync_commits)
    return engine


def _sync_commits(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Overrides a server default of `off`, which can lose an acknowledged webhook in a crash. All other values sync at
    # least to the server's own disk. https://www.postgresql.org/docs/current/wal-async-commit.html
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()
