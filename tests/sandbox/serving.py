"""Serves both sandboxes over real HTTP during a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox
from app.sandbox.server import serve

from .caller import KEY, SECRET

HOST = "127.0.0.1"


@dataclass
class Running:
    sailthru: SailthruSandbox
    lytics: LyticsSandbox
    ports: tuple[int, int]
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports[0]}"


@contextlib.asynccontextmanager
async def running(*, closes_connections: bool = True, handles_signals: bool = True) -> AsyncIterator[Running]:
    sailthru = SailthruSandbox({KEY: SECRET}, closes_connections=closes_connections)
    lytics = LyticsSandbox("token")
    ready: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            HOST,
            0,
            0,
            sailthru=sailthru,
            lytics=lytics,
            on_ready=lambda *ports: ready.set_result(ports),
            handles_signals=handles_signals,
        )
    )
    server = Running(sailthru, lytics, await ready, task)
    try:
        yield server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
