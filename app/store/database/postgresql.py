"""TODO."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json
from sqlalchemy import (
    event,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.domain.errors import BadSettings
from app.store.database.clock import StoreClock
from app.store.database.dialect import _BY_KEY
from app.store.database.notifications import Notifications
from app.store.database.timeouts import LONGEST_STATEMENT_SECONDS, WAIT_SECONDS
from app.store.database.transactions import Overtaken, T, Work, _json
from app.store.database.unavailable import _as_unavailable

# Connections of one replica to PostgreSQL, for readers and writers together; the doorbell has one more.
CONNECTIONS = 16
# Group commits of one kind that a replica has under way there: while the server works for one of them, and its disk for
# another, we do for the third. Two left our core idle for a fifth of the time, and four had no more to share.
SIDE_BY_SIDE = 3


class Pool:
    """PostgreSQL: transactions side by side, as many as there are connections, beside those of all other replicas.

    They run on the event loop, in which asyncpg waits for the server.
    """

    def __init__(self, url: URL) -> None:
        self._clock = StoreClock()
        self.clock: Callable[[], datetime] = self._clock
        self.is_shared = True
        self.at_once = SIDE_BY_SIDE
        self._url = url
        self._engine = _postgresql_engine(
            url,
            LONGEST_STATEMENT_SECONDS,
            _BY_KEY,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_use_lifo=True,
        )
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[T]) -> T:
        """See `Transactions`."""
        return await self._outlasting(self._until_not_overtaken(work))

    async def change(self, work: Work[T]) -> T:
        """See `Transactions`."""
        engine = _postgresql_engine(self._url, None, poolclass=NullPool)
        try:
            return await self._outlasting(self._in_transaction(engine, work))
        finally:
            await engine.dispose()

    async def read(self, work: Work[T]) -> T:
        """See `Transactions`."""
        return await self._outlasting(self._in_transaction(self._reading, work))

    async def close(self) -> None:
        """See `Transactions`."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._engine.dispose()

    def notifications(self, on_notification: Callable[[str], None]) -> "Notifications | None":
        """See `Transactions`."""
        return Notifications(self._engine, self._url, on_notification)

    async def _outlasting(self, transaction: Coroutine[Any, Any, T]) -> T:
        """A transaction goes on although its caller goes away: cut off, its connection would be lost with it."""
        task = asyncio.create_task(transaction)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _until_not_overtaken(self, work: Work[T]) -> T:
        while True:
            with suppress(Overtaken):
                return await self._in_transaction(self._engine, work)

    async def _in_transaction(self, engine: AsyncEngine, work: Work[T]) -> T:
        with _as_unavailable():
            if self._clock.is_old:
                await self._ask_the_time()
            async with engine.begin() as connection:
                return await connection.run_sync(work)

    async def _ask_the_time(self) -> None:
        """Of the server, once a second at most. It also finds out whether a connection that has rested is still good:
        if not, nothing of anybody was lost with it, and another one is tried.
        """
        try:
            await self._look_at_clock()
        except (DBAPIError, OSError):
            await self._look_at_clock()

    async def _look_at_clock(self) -> None:
        async with self._reading.begin() as connection:
            asked_at = time.monotonic()
            confirmed: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            self._clock.learn(confirmed, asked_at, time.monotonic())


def _postgresql_engine(
    url: URL,
    longest_seconds: float | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    **pool: Any,  # noqa: ANN401 - SQLAlchemy's
) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url,
            hide_parameters=True,
            json_serializer=_json,
            json_deserializer=from_json,
            connect_args={
                "timeout": WAIT_SECONDS,
                "command_timeout": longest_seconds,
                "server_settings": {
                    "application_name": "lytics-sailthru",
                    "lock_timeout": str(WAIT_SECONDS * 1000),
                    # Of a replica that hangs in the middle of a transaction, others must not wait for ever.
                    "idle_in_transaction_session_timeout": str(LONGEST_STATEMENT_SECONDS * 1000),
                    # Compiling a plan takes longer than all that these statements do.
                    "jit": "off",
                    **settings,
                },
            },
            **pool,
        )
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"DATABASE_URL names a PostgreSQL database, for which the package {error.name!r} is missing: install "
            "lytics-sailthru[postgres]."
        ) from None
    event.listen(engine.sync_engine, "connect", _sync_commits)
    return engine


def _sync_commits(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Whatever the server's default is: an acknowledged webhook must not be lost with the last moments before a crash.
    # Other values sync at least to the server's own disk. https://www.postgresql.org/docs/current/wal-async-commit.html
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()
