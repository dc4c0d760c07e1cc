"""Serves both sandboxes over real HTTP, in one process."""

import asyncio
import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.sandbox.connection import EXTENSION
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox

GRACE_SECONDS = 2
NOT_LINGERING = struct.pack("ii", 1, 0)


async def serve(
    host: str,
    port_sailthru: int,
    port_lytics: int,
    *,
    sailthru: SailthruSandbox,
    lytics: LyticsSandbox,
    on_ready: Callable[[int, int], None] | None = None,
    handles_signals: bool = True,
) -> None:
    """Serve until cancelled, or until SIGTERM or SIGINT. Prints nothing.

    Args:
        port_sailthru: 0 for any free port.
        port_lytics: 0 for any free port.
        on_ready: called with both ports once connections are accepted.
        handles_signals: False if the caller handles signals.

    Raises:
        OSError: an address or a port is not available.
    """
    stopped = asyncio.Event()
    with _listen(host, port_sailthru) as sailthru_socket, _listen(host, port_lytics) as lytics_socket:
        servers = [_QuietServer(_config(sailthru)), _QuietServer(_config(lytics))]
        running = [
            asyncio.create_task(server.serve(sockets=[sock]))
            for server, sock in zip(servers, (sailthru_socket, lytics_socket), strict=True)
        ]
        stop = asyncio.create_task(stopped.wait())
        try:
            if on_ready is not None:
                on_ready(sailthru_socket.getsockname()[1], lytics_socket.getsockname()[1])
            # Only the main thread can handle signals.
            is_main = threading.current_thread() is threading.main_thread()
            with _signals(stopped.set) if handles_signals and is_main else contextlib.nullcontext():
                await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            sailthru.shut_down()
            lytics.shut_down()
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*running)


class _QuietServer(uvicorn.Server):
    """A server that does not handle signals, because two servers share the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _BreakableConnection(HttpToolsProtocol):
    """A connection that the app may end in the middle of an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"reset": self._reset, "close": self.transport.close}}

    def _reset(self) -> None:
        if not self.transport.is_closing():
            # Without SO_LINGER a finished connection would be closed, not reset.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOT_LINGERING)
            self.transport.abort()


def _config(app: SailthruSandbox | LyticsSandbox) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_BreakableConnection,
        # The Lytics sandbox adds a `Date` header from its simulated clock.
        date_header=isinstance(app, SailthruSandbox),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
