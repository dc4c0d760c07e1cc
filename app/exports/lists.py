"""Creates each Sailthru list once, although several deliveries, replicas and exports may need it at the same time."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from app.domain.errors import OutcomeUnknown, StoreUnavailable
from app.exports.needs import Exports, Lists

# How often to check whether another worker has created the list.
POLL_INTERVAL = timedelta(seconds=0.5)


class ListMaker:
    """Creates the lists of one Sailthru account.

    Args:
        timeout: the time limit of one request to Sailthru.
    """

    def __init__(
        self,
        account: str,
        lists: Lists,
        exports: Exports,
        *,
        timeout: timedelta,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._account = account
        self._lists = lists
        self._exports = exports
        # One read, one write, and one more timeout, during which Sailthru may still apply a write that timed out.
        self._lease_for = 3 * timeout
        self._sleep = sleep
        self._running: dict[tuple[str, bool], asyncio.Task[None]] = {}

    async def ensure(self, name: str, *, is_missing: bool = False) -> None:
        """Ensure that a list exists in Sailthru and is recorded as ready.

        Simultaneous callers share one request, because parallel first calls have created several lists with one name
        (https://github.com/grouparoo/grouparoo, plugins/@grouparoo/sailthru). Cancelling one caller does not affect
        the others.

        Args:
            is_missing: Sailthru no longer knows the list, although it is recorded as ready.

        Raises:
            UnknownList: Sailthru refuses to create the list.
            CallFailed: see `SailthruClient.call`.
            StoreUnavailable: the turn to create the list could not be reserved.
        """
        # Callers with and without `is_missing` need separate requests: a list that is recorded as ready ends only the
        # calls without it.
        key = (name, is_missing)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._ensure(name, is_missing=is_missing))
            task.add_done_callback(lambda done: self._on_end(key, done))
        await asyncio.shield(task)

    async def _ensure(self, name: str, *, is_missing: bool) -> None:
        lease = secrets.randbits(62)
        while True:
            turn = await self._exports.take_turn(
                self._account, name, lease=lease, lease_for=self._lease_for, is_missing=is_missing
            )
            if turn.is_ready:
                return
            if turn.is_ours:
                break
            await self._sleep(POLL_INTERVAL.total_seconds())
        try:
            list_id = await self._lists.find_or_create(name)
            await self._exports.mark_list_ready(self._account, name, list_id)
        except (OutcomeUnknown, asyncio.CancelledError):
            # Sailthru may still create the list. Keep the lease, so that no other worker creates a second list.
            raise
        except Exception:
            await self._release_turn(name, lease)
            raise
        await self._release_turn(name, lease)

    async def _release_turn(self, name: str, lease: int) -> None:
        with suppress(StoreUnavailable):
            await self._exports.release_turn(self._account, name, lease=lease)

    def _on_end(self, key: tuple[str, bool], task: asyncio.Task[None]) -> None:
        del self._running[key]
        # If every caller was cancelled, reading the exception keeps asyncio from logging it as never retrieved.
        if not task.cancelled():
            task.exception()
