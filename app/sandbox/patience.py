"""Waiting for its own sake: pauses, and silence until the client hangs up. All of it can be ended at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Patience:
    """What calls wait for when a fault makes them."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def pause(self, seconds: float) -> bool:
        """So long; or shorter, then False, if everything is ended."""
        if seconds <= 0:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return True
        return False

    async def silence(self, gone: Coroutine[Any, Any, object]) -> None:
        """Until `gone` returns, since the client has hung up, or everything is ended."""
        ends = [asyncio.create_task(gone), asyncio.create_task(self._ended.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def end(self) -> None:
        """Ends all that is being waited for now."""
        self._ended.set()
        self._ended = asyncio.Event()
