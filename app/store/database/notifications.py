"""TODO."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.dialect import _IN_USE, _OURS, TRY_TO_SHARE
from app.store.database.timeouts import LONGEST_STATEMENT_SECONDS, WAIT_SECONDS
from app.store.database.unavailable import driver_errors, why_unreachable

CHANNEL, EVERYTHING = "lytics_sailthru", "*"
RECONNECT_SECONDS, RING_EVERY_SECONDS = 1.0, 0.01


class Notifications:
    """Wakes replicas of PostgreSQL that sleep. It only saves time: who hears nothing looks again by itself, after
    seconds.

    Its connection also shows, by a lock that all replicas share, that the database is in use.

    Args:
        on_ring: told what was rung with, or `EVERYTHING` where something may have been missed.
    """

    def __init__(self, engine: AsyncEngine, url: URL, on_notification: Callable[[str], None]) -> None:
        self._engine = engine
        self._url = url
        self._on_notification = on_notification
        self._wishes: set[str] = set()
        self._wants: asyncio.Event = asyncio.Event()
        self._connection: Any = None

    def ring(self, what: str) -> None:
        """Wake the others soon."""
        self._wishes.add(what)
        self._wants.set()

    async def connect(self) -> None:
        """For the first time, before anything else is done with the database.

        Raises:
            BadSettings: the server does not let us in, or a copy goes into the database.
            StoreUnavailable: it can't be reached.
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
            is_free = await self._connection.fetchval(TRY_TO_SHARE)
        except refusals as error:
            raise BadSettings(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        except driver_errors() as error:
            raise StoreUnavailable(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        if not is_free:
            raise BadSettings(
                "A copy goes into the database that DATABASE_URL names: start once `lytics-sailthru copy` has finished."
            )

    async def run(self) -> None:
        """Until cancelled; a connection that is lost is made again."""
        while True:
            with suppress(*driver_errors()):
                connection, self._connection = self._connection or await self._connected(), None
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_SECONDS)

    def close(self) -> None:
        """Give back the connection of one that does not run."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> Any:  # noqa: ANN401 - asyncpg tells no types
        import asyncpg

        _, how = self._engine.dialect.create_connect_args(self._url)
        return await asyncpg.connect(**how, timeout=WAIT_SECONDS, command_timeout=LONGEST_STATEMENT_SECONDS)

    async def _listen(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg tells no types
        lost = asyncio.Event()
        connection.add_termination_listener(partial(self._lost, lost))
        await connection.execute(f"SELECT pg_advisory_lock_shared({_OURS}, {_IN_USE})")
        await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, what: self._on_notification(what))
        self._on_notification(EVERYTHING)
        while not lost.is_set():
            await self._wants.wait()
            self._wants.clear()
            wishes, self._wishes = self._wishes, set()
            for what in sorted(wishes):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, what)
            # Many wishes of one moment are one ring.
            await asyncio.sleep(RING_EVERY_SECONDS)

    def _lost(self, lost: asyncio.Event, _: object) -> None:
        lost.set()
        self._wants.set()
