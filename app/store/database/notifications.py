"""Notifications between replicas with LISTEN/NOTIFY of PostgreSQL: the remote half of the in-process signals."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.dialect import SHARE_DATABASE, TRY_TO_SHARE_DATABASE
from app.store.database.timeouts import LONGEST_STATEMENT_SECONDS, WAIT_SECONDS
from app.store.database.unavailable import driver_errors, why_unreachable

CHANNEL = "lytics_sailthru"
# Stands for all topics: notifications may have been missed.
EVERYTHING = "*"
RECONNECT_SECONDS, NOTIFY_EVERY_SECONDS = 1.0, 0.01


class Notifications:
    """Sends topics to all replicas, and receives theirs, on one connection to PostgreSQL.

    A notification may be lost with the connection. This only costs time, since replicas also poll every few seconds.
    The connection holds a shared lock, by which `copy` detects that a replica uses the database.

    Args:
        on_notification: receives each topic, or `EVERYTHING` after a new connection.
    """

    def __init__(self, engine: AsyncEngine, url: URL, on_notification: Callable[[str], None]) -> None:
        self._engine = engine
        self._url = url
        self._on_notification = on_notification
        self._topics: set[str] = set()
        self._is_needed = asyncio.Event()
        self._connection: Any = None

    def notify(self, topic: str) -> None:
        """Send a topic soon; the same topic again within 10 ms is sent once."""
        self._topics.add(topic)
        self._is_needed.set()

    async def connect(self) -> None:
        """Connect for the first time, before anything else uses the database.

        Raises:
            BadSettings: the server refuses the user or the database, or a copy into the database is running.
            StoreUnavailable: the server can't be reached.
        """
        import asyncpg

        refusals = (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        )
        self.close()
        try:
            self._connection = await self._connected()
            is_free = await self._connection.fetchval(TRY_TO_SHARE_DATABASE)
        except refusals as error:
            raise BadSettings(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        except driver_errors() as error:
            raise StoreUnavailable(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        if not is_free:
            raise BadSettings(
                "A copy into the database that DATABASE_URL names is running: start the service once "
                "`lytics-sailthru copy` has finished."
            )

    async def run(self) -> None:
        """Send and receive until cancelled; reconnect when the connection is lost."""
        while True:
            with suppress(*driver_errors()):
                connection, self._connection = self._connection or await self._connected(), None
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_SECONDS)

    def close(self) -> None:
        """Close the connection that `connect` made and `run` has not taken."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> Any:  # noqa: ANN401 - asyncpg has no types
        import asyncpg

        _, options = self._engine.dialect.create_connect_args(self._url)
        return await asyncpg.connect(**options, timeout=WAIT_SECONDS, command_timeout=LONGEST_STATEMENT_SECONDS)

    async def _listen(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        lost = asyncio.Event()
        connection.add_termination_listener(partial(self._on_lost, lost))
        await connection.execute(SHARE_DATABASE)
        await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, topic: self._on_notification(topic))
        self._on_notification(EVERYTHING)
        while not lost.is_set():
            await self._is_needed.wait()
            self._is_needed.clear()
            topics, self._topics = self._topics, set()
            for topic in sorted(topics):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, topic)
            await asyncio.sleep(NOTIFY_EVERY_SECONDS)

    def _on_lost(self, lost: asyncio.Event, _: object) -> None:
        lost.set()
        self._is_needed.set()
