"""The service and the sandbox as real processes that talk over HTTP."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests import postgresql
from tests.places import PLACE

T = TypeVar("T")

WEBHOOK_TOKEN = "webhook-token-of-the-tests"
ADMIN_TOKEN = "admin-token-of-the-tests"
API_KEY, API_SECRET, LYTICS_TOKEN = "demo-key", "demo-secret", "demo-token"
LIST = f"Lytics {SPRING_BUYERS.name}"
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
# Most of these processes are killed, so they write no coverage. Measuring it would only slow them down.
ENV_WITHOUT_COVERAGE = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
TIMEOUT_SECONDS = 1.0


def until(read: Callable[[], T], holds: Callable[[T], object], *, patience: float = PATIENCE_SECONDS) -> T:
    """Call `read` until `holds` accepts its value, and return the value.

    Raises:
        AssertionError: no value was accepted within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        value = read()
        if holds(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"The condition did not hold within {patience} seconds. Last value: {value!r:.2000}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port below the range of outgoing connections, which could take it before it is used."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class Process:
    """A command that runs as a process, by default a command of the service."""

    words: list[str]
    env: Mapping[str, str]
    log: Path
    prefix: list[str] = field(default_factory=list)
    module: str = "app"
    running: "subprocess.Popen[bytes] | None" = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", self.module, *self.words],
                env={**ENV_WITHOUT_COVERAGE, "PYTHONPATH": str(ROOT), **self.env},
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,
            )
        return self

    @property
    def is_running(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def kill(self) -> None:
        """Send SIGKILL to the process and its children."""
        assert self.running is not None
        os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        assert self.running is not None
        if self.is_running:
            self.running.terminate()
        return self.running.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        if self.is_running:
            self.kill()


class Sandbox:
    """The sandboxes of Sailthru and Lytics, in one process."""

    def __init__(self, folder: Path, *, latency: float = 0.02) -> None:
        self.port, self.lytics_port = free_port(), free_port()
        self.process = self.program(folder / "sandbox.log", latency).start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/_sandbox/", timeout=10)
        self.lytics = httpx.Client(base_url=f"http://127.0.0.1:{self.lytics_port}/_sandbox/", timeout=10)
        until(lambda: is_up(self.http, "state"), bool)

    def program(self, log: Path, latency: float) -> Process:
        ports = ["--sailthru-port", str(self.port), "--lytics-port", str(self.lytics_port)]
        return Process(["sandbox", *ports, "--latency", str(latency)], {}, log)

    def control(self, path: str, **body: object) -> None:
        """Call a control route of the Sailthru sandbox."""
        self.http.post(path, json=body).raise_for_status()

    def control_lytics(self, path: str, **body: object) -> None:
        """Call a control route of the Lytics sandbox."""
        self.lytics.post(path, json=body).raise_for_status()

    def state(self, *, with_log: bool = False) -> dict[str, Any]:
        state: dict[str, Any] = self.http.get("state", params={"log": str(with_log).lower()}).json()
        return state

    def account(self, *, key: str = API_KEY, with_log: bool = False) -> dict[str, Any]:
        account: dict[str, Any] = self.state(with_log=with_log)["accounts"][key]
        return account

    def members(self, name: str = LIST) -> set[str]:
        return set(self.account()["lists"].get(name, []))

    def joins(self, name: str = LIST) -> list[str]:
        """Return the addresses of all joins of a list, in order. Each join starts a flow."""
        events = self.account()["lo_events"]
        return [event["email"] for event in events if (event["entry"], event["list"]) == ("List Joined", name)]

    def calls(self, name: str) -> int:
        count: int = self.account()["calls"].get(name, 0)
        return count

    def close(self) -> None:
        self.http.close()
        self.lytics.close()
        self.process.end()


class Service:
    """The service with its own database: an SQLite file in `data`, or a database on PostgreSQL."""

    def __init__(self, folder: Path, sandbox: Sandbox, **env: str) -> None:
        self.port = free_port()
        self.database = folder / "data" / "service.db"
        self.url = PLACE.url(folder) if PLACE.is_postgresql else f"sqlite:///{self.database}"
        settings = {
            "DATABASE_URL": self.url,
            "WEBHOOK_TOKENS": f"tests:{WEBHOOK_TOKEN}",
            "ADMIN_TOKENS": f"tests:{ADMIN_TOKEN}",
            "LYTICS_API_TOKEN": LYTICS_TOKEN,
            "LYTICS_BASE_URL": f"http://127.0.0.1:{sandbox.lytics_port}",
            "SAILTHRU_API_KEY": API_KEY,
            "SAILTHRU_API_SECRET": API_SECRET,
            "SAILTHRU_BASE_URL": f"http://127.0.0.1:{sandbox.port}",
            "SAILTHRU_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "PORT": str(self.port),
        }
        self.log = folder / "service.log"
        self.process = Process(["serve"], {**settings, **env}, self.log)
        self.http = self.client()

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=10
        )

    def start(self) -> Self:
        self.process.start()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.is_running, self.log.read_text()
            return is_up(self.http, "/health/ready")

        until(is_ready, bool)

    def send(self, body: object, **more: Any) -> httpx.Response:
        return self.http.post("/webhooks/lytics", json=body, headers={"Authorization": WEBHOOK_TOKEN}, **more)

    def send_all(self, bodies: Collection[object]) -> None:
        for body in bodies:
            self.send(body).raise_for_status()

    def files(self) -> list[Path]:
        """Return the files of the database. There are none on PostgreSQL."""
        folder = self.database.parent
        return list(folder.iterdir()) if folder.exists() else []

    def stored(self) -> bytes:
        """Return the whole content of the database."""
        if PLACE.is_postgresql:
            return postgresql.apart(postgresql.everything(self.url)).encode()
        return b"".join(path.read_bytes() for path in self.files())

    def export(self) -> dict[str, Any]:
        """Return the only export."""
        (export,) = self.http.get("/exports").raise_for_status().json()["items"]
        return dict(export)

    def wait_until_delivered(self) -> dict[str, Any]:
        """Wait until nothing is pending, and return the only export."""
        return until(self.export, lambda e: e["state"] == "running" and e["counts"]["pending"] == 0)

    def close(self) -> None:
        self.http.close()
        self.process.end()


def is_up(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


@contextmanager
def running(folder: Path, *, latency: float = 0.02, **env: str) -> Iterator[tuple[Service, Sandbox]]:
    """Run a service and a sandbox, and end both."""
    sandbox = Sandbox(folder, latency=latency)
    try:
        service = Service(folder, sandbox, **env)
        try:
            yield service.start(), sandbox
        finally:
            service.close()
    finally:
        sandbox.close()
