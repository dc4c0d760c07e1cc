"""A wire to PostgreSQL that is cut in the middle of a commit: before the server has heard of it, or before we hear
that it is done.
"""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

COMMIT = b"COMMIT;\x00"


class Cut(StrEnum):
    """What becomes of the commit."""

    LOST = "lost"
    DONE = "done"


class Wire:
    """Passes everything on, until it is told to cut.

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
        self._next: tuple[Cut, bytes] | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.cuts = 0
        self.port = 0

    def cut_next(self, how: Cut, named: str) -> None:
        """The commit of the next transaction that names this."""
        self._next = how, named.encode()

    def cut_some(self, chance: float) -> None:
        """From now on each commit with this chance."""
        self._chance = chance

    async def serve(self, is_up: threading.Event, over: asyncio.Event) -> None:
        """Until it is over."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await over.wait()
        server.close()
        for writers in self._connections.values():
            _abort(writers)
        while self._connections:
            await asyncio.wait(self._connections)
        await server.wait_closed()

    async def _connected(self, ours: asyncio.StreamReader, to_us: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        writers = self._connections[this] = [to_us]
        try:
            with suppress(OSError):
                theirs, to_them = await asyncio.open_connection("127.0.0.1", self._server_port)
                writers.append(to_them)
                await self._pass_on(ours, to_us, theirs, to_them)
        finally:
            _abort(writers)
            # Each is told of its end in one of the next turns.
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
            del self._connections[this]

    async def _pass_on(
        self,
        ours: asyncio.StreamReader,
        to_us: asyncio.StreamWriter,
        theirs: asyncio.StreamReader,
        to_them: asyncio.StreamWriter,
    ) -> None:
        answers = asyncio.create_task(_copy(theirs, to_us))
        said = b""
        try:
            while data := await ours.read(65536):
                said += data
                cut = self._cut(said) if COMMIT in data else None
                if COMMIT in data:
                    said = b""
                if cut is not Cut.LOST:
                    to_them.write(data)
                    await to_them.drain()
                if cut is Cut.DONE:
                    # What the server says of it goes nowhere.
                    await _stopped(answers)
                    await theirs.read(1)
                if cut is not None:
                    break
        finally:
            await _stopped(answers)

    def _cut(self, said: bytes) -> Cut | None:
        """Args:
        said: in the transaction that is to be committed.
        """
        cut: Cut | None = None
        if self._next is not None and self._next[1] in said:
            (cut, _), self._next = self._next, None
        elif self._dice.random() < self._chance:
            cut = self._dice.choice(list(Cut))
        self.cuts += cut is not None
        return cut


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _abort(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()


@contextmanager
def wire_to(port: int, *, seed: int = 0) -> Iterator[Wire]:
    """A wire in a thread of its own."""
    wire = Wire(port, seed=seed)
    is_up = threading.Event()
    loop: asyncio.AbstractEventLoop | None = None
    over: asyncio.Event | None = None

    async def serve() -> None:
        nonlocal loop, over
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        await wire.serve(is_up, over)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(10)
        yield wire
    finally:
        if loop is not None and over is not None:
            loop.call_soon_threadsafe(over.set)
        thread.join()
