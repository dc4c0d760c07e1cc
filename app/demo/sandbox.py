"""The sandbox of both ends as a program of its own."""

import asyncio
import random

from rich.console import Console

from app.sandbox import server
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox

SAILTHRU_KEY, SAILTHRU_SECRET, LYTICS_TOKEN = "demo-key", "demo-secret", "demo-token"


def run_sandbox(host: str, sailthru_port: int, lytics_port: int, *, latency: float) -> None:
    """Run both sandboxes until a signal comes, and say where they are and what they take."""
    sailthru = SailthruSandbox({SAILTHRU_KEY: SAILTHRU_SECRET}, latency=(latency, latency / 3), dice=random.Random())  # noqa: S311 - no secret
    lytics = LyticsSandbox(LYTICS_TOKEN)

    def tell(port: int, other: int) -> None:
        Console(highlight=False).print(
            f"Sailthru sandbox: http://{host}:{port}   key {SAILTHRU_KEY}, secret {SAILTHRU_SECRET}\n"
            f"Lytics sandbox:   http://{host}:{other}   token {LYTICS_TOKEN}\n"
            f"Who is on which list: http://{host}:{port}/_sandbox/state"
        )

    try:
        asyncio.run(server.serve(host, sailthru_port, lytics_port, sailthru=sailthru, lytics=lytics, on_ready=tell))
    except OSError as error:
        raise SystemExit(
            f"lytics-sailthru: the sandbox can't listen there ({error.strerror}): choose other ports."
        ) from error
