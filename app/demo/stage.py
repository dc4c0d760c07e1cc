"""Starts and stops the processes of the demo: the sandboxes and the service."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.demo.sandbox import LYTICS_TOKEN, SAILTHRU_KEY, SAILTHRU_SECRET

TIMEOUT_SECONDS = 60
PROGRAM = (sys.executable, "-m", "app")


class NotStarted(Exception):
    """The service or the sandbox did not start. The text contains their log."""


@dataclass(frozen=True)
class Account:
    """The state of a Sailthru account in the sandbox."""

    state: Mapping[str, Any]

    def members(self, list_name: str) -> set[str]:
        return set(self.state["lists"].get(list_name, ()))

    def joins(self, list_name: str) -> Counter[str]:
        """Return the number of joins of a list by address. Each join starts a flow."""
        events = self.state["lo_events"]
        return Counter(
            event["email"] for event in events if (event["entry"], event["list"]) == ("List Joined", list_name)
        )


@dataclass(frozen=True)
class Stage:
    """The addresses of the running processes, and their tokens.

    Args:
        folder: the working directory of all processes. It has no `.env`, so no real account is used.
    """

    service: str
    sailthru: str
    lytics: str
    folder: Path
    webhook_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def log(self) -> Path:
        """The log of the service and the sandbox."""
        return self.folder / "everything.log"

    def command(self, *words: str) -> int:
        """Run one of our commands on this terminal and return its exit code."""
        env = {**os.environ, **self.for_commands()}
        return subprocess.run([*PROGRAM, *words], env=env, cwd=self.folder, check=False).returncode  # noqa: S603 - our own program

    def for_commands(self) -> dict[str, str]:
        """Return the settings that the commands need."""
        return {"SERVICE_URL": self.service, "ADMIN_TOKENS": f"demo:{self.admin_token}"}

    def account(self) -> Account:
        state = httpx.get(f"{self.sailthru}/_sandbox/state", params={"log": "false"}).json()
        return Account(state["accounts"][SAILTHRU_KEY])

    def control_lytics(self, route: str, body: Mapping[str, object]) -> None:
        """Call a control route of the Lytics sandbox."""
        httpx.post(f"{self.lytics}/_sandbox/{route}", json=body).raise_for_status()


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Start all processes in a temporary folder, and stop them at the end.

    Raises:
        NotStarted: a process is not ready in time, or has ended.
    """
    ports = _free_ports(3)
    service, sailthru, lytics = (f"http://127.0.0.1:{port}" for port in ports)
    with tempfile.TemporaryDirectory(prefix="lytics-sailthru-demo-") as folder:
        stage = Stage(service, sailthru, lytics, Path(folder))
        with stage.log.open("wb") as log:
            running = [
                subprocess.Popen(  # noqa: S603 - our own program
                    [*PROGRAM, *words],
                    env=_settings(stage, ports[0]),
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    start_new_session=True,
                )
                for words in (
                    ["sandbox", "--sailthru-port", str(ports[1]), "--lytics-port", str(ports[2])],
                    ["serve"],
                )
            ]
            try:
                _wait_until_ready(stage, running)
                yield stage
            finally:
                for process in running[::-1]:
                    process.send_signal(signal.SIGTERM)
                for process in running:
                    process.wait(TIMEOUT_SECONDS)


def _settings(stage: Stage, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{stage.folder / 'demo.db'}",
        "WEBHOOK_TOKENS": f"demo:{stage.webhook_token}",
        "ADMIN_TOKENS": f"demo:{stage.admin_token}",
        "LYTICS_API_TOKEN": LYTICS_TOKEN,
        "LYTICS_BASE_URL": stage.lytics,
        "SAILTHRU_API_KEY": SAILTHRU_KEY,
        "SAILTHRU_API_SECRET": SAILTHRU_SECRET,
        "SAILTHRU_BASE_URL": stage.sailthru,
        "SAILTHRU_AUTHORIZATIONS": "{}",
        "AUTO_EXPORT": "true",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }


def _wait_until_ready(stage: Stage, running: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in running):
            break
        try:
            answers = [httpx.get(f"{stage.service}/health/ready"), httpx.get(f"{stage.sailthru}/_sandbox/state")]
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if all(answer.is_success for answer in answers):
            return
    raise NotStarted(f"The service or the sandbox did not start. Their log:\n{stage.log.read_text()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
