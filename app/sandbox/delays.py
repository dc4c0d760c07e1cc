"""The waits of faults. A reset or a shutdown ends all of them at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Delays:
    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def sleep(self, seconds: float) -> bool:
        """Sleep, and return whether the whole time passed: False if `end_all` was called."""
        if seconds <= 0:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return True
        return False

    async def until(self, disconnect: Coroutine[Any, Any, object]) -> None:
        """Wait until `disconnect` returns or `end_all` is called."""
        ends = [asyncio.create_task(disconnect), asyncio.create_task(self._ended.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def end_all(self) -> None:
        """End every wait that is in progress; later waits are not affected."""
        self._ended.set()
        self._ended = asyncio.Event()
