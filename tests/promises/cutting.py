"""A proxy to PostgreSQL that cuts connections during a commit: before the server receives it, or before the answer."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

COMMIT = b"COMMIT;\x00"


class Cut(StrEnum):
    """The moment of a cut: LOST before the commit reaches the server, DONE after the server has committed."""

    LOST = "lost"
    DONE = "done"


class Proxy:
    """Forwards all bytes, and cuts chosen connections.

    Args:
        port: the port of the server.
        seed: the seed for the random choice of commits.

    Attributes:
        cuts: the number of commits that were cut.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self._server_port = port
        self._chance = 0.0
        self._dice = random.Random(seed)
        self._next: tuple[Cut, bytes] | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self.cuts = 0
        self.port = 0

    def cut_next(self, how: Cut, text: str) -> None:
        """Cut the commit of the next transaction that contains this text."""
        self._next = how, text.encode()

    def cut_some(self, chance: float) -> None:
        """Cut each commit with this probability from now on."""
        self._chance = chance

    async def serve(self, is_up: threading.Event, over: asyncio.Event) -> None:
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

    async def _connected(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [to_client]
        try:
            with suppress(OSError):
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
                writers.append(to_server)
                await self._forward(from_client, to_client, from_server, to_server)
        finally:
            _abort(writers)
            # A closed writer reports its end in a later iteration of the loop.
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
            del self._connections[task]

    async def _forward(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        answers = asyncio.create_task(_copy(from_server, to_client))
        sent = b""
        try:
            while data := await from_client.read(65536):
                sent += data
                cut = self._cut(sent) if COMMIT in data else None
                if COMMIT in data:
                    sent = b""
                if cut is not Cut.LOST:
                    to_server.write(data)
                    await to_server.drain()
                if cut is Cut.DONE:
                    # Wait for the server's answer and drop it.
                    await _stopped(answers)
                    await from_server.read(1)
                if cut is not None:
                    break
        finally:
            await _stopped(answers)

    def _cut(self, transaction: bytes) -> Cut | None:
        """Return whether and how to cut a commit, given all bytes of its transaction."""
        cut: Cut | None = None
        if self._next is not None and self._next[1] in transaction:
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
def proxy_to(port: int, *, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy to the server on this port, in its own thread."""
    proxy = Proxy(port, seed=seed)
    is_up = threading.Event()
    loop: asyncio.AbstractEventLoop | None = None
    over: asyncio.Event | None = None

    async def serve() -> None:
        nonlocal loop, over
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        await proxy.serve(is_up, over)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(10)
        yield proxy
    finally:
        if loop is not None and over is not None:
            loop.call_soon_threadsafe(over.set)
        thread.join()
