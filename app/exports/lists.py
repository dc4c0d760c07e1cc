"""Makes sure that a list exists, once for all who want it: deliveries, naming, and every other replica."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from app.domain.errors import OutcomeUnknown, StoreUnavailable

# Somebody else makes it: whether that is done is looked at so often.
LOOK_AGAIN = timedelta(seconds=0.5)


class Lists(Protocol):
    """One Sailthru account."""

    async def find_or_make(self, name: str) -> str | None:
        """The id of a list, made if it was missing."""
        ...


class Turn(Protocol):
    """Whether it is our turn to make a list."""

    @property
    def is_ours(self) -> bool:
        """Nobody else makes it meanwhile."""
        ...

    @property
    def is_ready(self) -> bool:
        """There is nothing to do."""
        ...


class Exports(Protocol):
    """Where it is remembered which lists exist, and whose turn it is to make one."""

    async def take_turn(self, account: str, name: str, *, lease: int, lease_for: timedelta, is_again: bool) -> Turn:
        """Whether it is our turn."""
        ...

    async def give_turn_back(self, account: str, name: str, *, lease: int) -> None:
        """Let somebody else try."""
        ...

    async def list_is_ready(self, account: str, name: str, list_id: str | None) -> None:
        """Nobody needs to ask Sailthru for this list again."""
        ...


class ListMaker:
    """The lists of one Sailthru account.

    Args:
        timeout: how long Sailthru may take for one request.
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
        # A look, the making, and as long again in which Sailthru may carry out what we gave up.
        self._lease_for = 3 * timeout
        self._sleep = sleep
        self._running: dict[tuple[str, bool], asyncio.Task[None]] = {}

    async def ensure(self, name: str, *, is_again: bool = False) -> None:
        """Make sure that a list exists, and that all know it.

        However many ask at the same time, one asks Sailthru: first calls side by side have made several lists of one
        name (https://github.com/grouparoo/grouparoo, plugins/@grouparoo/sailthru). A caller that is cancelled does not
        disturb the others.

        Args:
            is_again: Sailthru does not know it, although it was there.

        Raises:
            UnknownList: Sailthru refuses to make it.
            CallFailed: see `SailthruClient.call`.
            StoreUnavailable: whose turn it is can't be known.
        """
        # Who only wants to know whether the list is there may find that it is, which is no answer to who knows better.
        what = (name, is_again)
        task = self._running.get(what)
        if task is None:
            task = self._running[what] = asyncio.create_task(self._ensure(name, is_again=is_again))
            task.add_done_callback(lambda done: self._ended(what, done))
        await asyncio.shield(task)

    async def _ensure(self, name: str, *, is_again: bool) -> None:
        lease = secrets.randbits(62)
        while True:
            turn = await self._exports.take_turn(
                self._account, name, lease=lease, lease_for=self._lease_for, is_again=is_again
            )
            if turn.is_ready:
                return
            if turn.is_ours:
                break
            await self._sleep(LOOK_AGAIN.total_seconds())
        try:
            list_id = await self._lists.find_or_make(name)
            await self._exports.list_is_ready(self._account, name, list_id)
        except (OutcomeUnknown, asyncio.CancelledError):
            # It may still be made. Who looks before that is over, and finds nothing, would make a second one.
            raise
        except Exception:
            await self._give_back(name, lease)
            raise
        await self._give_back(name, lease)

    async def _give_back(self, name: str, lease: int) -> None:
        with suppress(StoreUnavailable):
            await self._exports.give_turn_back(self._account, name, lease=lease)

    def _ended(self, what: tuple[str, bool], task: asyncio.Task[None]) -> None:
        del self._running[what]
        # Asking for the exception tells asyncio that somebody saw it, if every caller was cancelled.
        if not task.cancelled():
            task.exception()
