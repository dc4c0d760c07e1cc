"""Makes a Sailthru list exactly once, however many deliveries, replicas and new exports ask for it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from app.domain.errors import OutcomeUnknown, StoreUnavailable
from app.exports.needs import Exports, Lists

# How often to look while another worker makes the list.
LOOK_AGAIN = timedelta(seconds=0.5)


class ListMaker:
    """The lists of one Sailthru account.

    Args:
        timeout: time limit of one request to Sailthru.
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
        # One read, one write, and the time that Sailthru may still take for a write that timed out.
        self._lease_for = 3 * timeout
        self._sleep = sleep
        self._running: dict[tuple[str, bool], asyncio.Task[None]] = {}

    async def ensure(self, name: str, *, is_missing: bool = False) -> None:
        """Make sure that a list exists and that its existence is recorded.

        Callers at the same time share one request: parallel first calls have made several lists of one name
        (https://github.com/grouparoo/grouparoo, plugins/@grouparoo/sailthru). Cancelling one caller does not affect
        the others.

        Args:
            is_missing: Sailthru no longer knows the list, although it is recorded as existing.

        Raises:
            UnknownList: Sailthru refuses to make it.
            CallFailed: see `SailthruClient.call`.
            StoreUnavailable: the turn to make the list could not be taken.
        """
        # Callers with and without `is_missing` do not share: a recorded list satisfies only the latter.
        key = (name, is_missing)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._ensure(name, is_missing=is_missing))
            task.add_done_callback(lambda done: self._ended(key, done))
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
            await self._sleep(LOOK_AGAIN.total_seconds())
        try:
            list_id = await self._lists.find_or_create(name)
            await self._exports.mark_list_ready(self._account, name, list_id)
        except (OutcomeUnknown, asyncio.CancelledError):
            # Sailthru may still make the list. The lease stays, so that no worker looks before and makes a second one.
            raise
        except Exception:
            await self._give_back(name, lease)
            raise
        await self._give_back(name, lease)

    async def _give_back(self, name: str, lease: int) -> None:
        with suppress(StoreUnavailable):
            await self._exports.release_turn(self._account, name, lease=lease)

    def _ended(self, key: tuple[str, bool], task: asyncio.Task[None]) -> None:
        del self._running[key]
        # If every caller was cancelled, reading the exception keeps asyncio from logging it as never retrieved.
        if not task.cancelled():
            task.exception()
