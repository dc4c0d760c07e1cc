"""
A wire to PostgreSQL that is cut in the middle of a commit: before the server has heard of it, or before we hear that it
is done.
"""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

COMMIT = b"COMMIT;\x00"


class Cut(StrEnum):
    """
    What becomes of the commit.
    """

    LOST = "lost"
    DONE = "done"


class Wire:
    """
    Passes everything on, until it is told to cut.

    Args:
        port: of the server.
        seed: of the dice.

    Attributes:
        cuts: how many commits were cut.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self._server_port = port
        self._chance = 0.0
        self._dice = random.Random(seed)
        self._next: Cut | None = None
        self.cuts = 0
        self.port = 0

    def cut_next(self, how: Cut) -> None:
        """
        The next commit that comes.
        """
        self._next = how

    def cut_some(self, chance: float) -> None:
        """
        From now on each commit with this chance.
        """
        self._chance = chance

    async def serve(self, is_up: threading.Event, over: asyncio.Event) -> None:
        """
        Until it is over.
        """
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await over.wait()
        server.close()

    async def _pass_on(self, ours: asyncio.StreamReader, to_us: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            theirs, to_them = await asyncio.open_connection("127.0.0.1", self._server_port)
            answers = asyncio.create_task(_copy(theirs, to_us))
            with suppress(OSError):
                while data := await ours.read(65536):
                    cut = self._cut(data)
                    if cut is not Cut.LOST:
                        to_them.write(data)
                        await to_them.drain()
                    if cut is Cut.DONE:
                        # What the server says of it goes nowhere.
                        answers.cancel()
                        await asyncio.wait({answers})
                        await theirs.read(1)
                    if cut is not None:
                        break
            answers.cancel()
            for writer in (to_them, to_us):
                writer.transport.abort()

    def _cut(self, data: bytes) -> Cut | None:
        if COMMIT not in data:
            return None
        cut, self._next = self._next, None
        if cut is None and self._dice.random() < self._chance:
            cut = self._dice.choice(list(Cut))
        self.cuts += cut is not None
        return cut


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def wire_to(port: int, *, seed: int = 0) -> Iterator[Wire]:
    """
    A wire in a thread of its own.
    """
    wire = Wire(port, seed=seed)
    is_up, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(wire.serve(is_up, over))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert is_up.wait(10)
        yield wire
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
