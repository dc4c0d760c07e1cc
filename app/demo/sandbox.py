"""Runs both sandboxes as a program."""

import asyncio
import random

from rich.console import Console

from app.sandbox import server
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox

SAILTHRU_KEY, SAILTHRU_SECRET, LYTICS_TOKEN = "demo-key", "demo-secret", "demo-token"


def run_sandbox(host: str, sailthru_port: int, lytics_port: int, *, latency: float) -> None:
    """Run both sandboxes until SIGTERM or SIGINT, and print their addresses and credentials."""
    sailthru = SailthruSandbox({SAILTHRU_KEY: SAILTHRU_SECRET}, latency=(latency, latency / 3), dice=random.Random())  # noqa: S311 - no secret
    lytics = LyticsSandbox(LYTICS_TOKEN)

    def show(sailthru_bound: int, lytics_bound: int) -> None:
        Console(highlight=False).print(
            f"Sailthru sandbox: http://{host}:{sailthru_bound}   key {SAILTHRU_KEY}, secret {SAILTHRU_SECRET}\n"
            f"Lytics sandbox:   http://{host}:{lytics_bound}   token {LYTICS_TOKEN}\n"
            f"State of Sailthru: http://{host}:{sailthru_bound}/_sandbox/state"
        )

    try:
        asyncio.run(server.serve(host, sailthru_port, lytics_port, sailthru=sailthru, lytics=lytics, on_ready=show))
    except OSError as error:
        raise SystemExit(
            f"lytics-sailthru: The sandbox can't listen at {host}, ports {sailthru_port} and {lytics_port}"
            f" ({error.strerror}): choose another host or other ports."
        ) from error
