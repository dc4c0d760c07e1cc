"""Replicas as real processes on one PostgreSQL. Each clock is wrong by a different time."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import postgresql
from tests.bench.sandbox import secret_of
from tests.promises.processes import (
    ADMIN_TOKEN,
    API_KEY,
    LYTICS_TOKEN,
    WEBHOOK_TOKEN,
    Process,
    Sandbox,
    free_port,
    is_up,
    until,
)

HOUR_SECONDS = 3600
LIMIT, SHARE = 3000, 0.8


class LimitedSandbox(Sandbox):
    """A Sailthru sandbox with a rate limit that the service reaches."""

    def program(self, log: Path, latency: float) -> Process:
        ports = [str(self.port), str(self.lytics_port)]
        return Process([*ports, str(LIMIT), API_KEY], {}, log, module="tests.bench.sandbox")


class Replica:
    """A process with a clock that is `skew` seconds ahead."""

    def __init__(self, folder: Path, sandbox: Sandbox, url: str, number: int, skew: float, *words: str) -> None:
        self.port = free_port()
        env = {
            "DATABASE_URL": url,
            "WEBHOOK_TOKENS": f"tests:{WEBHOOK_TOKEN}",
            "ADMIN_TOKENS": f"tests:{ADMIN_TOKEN}",
            "LYTICS_API_TOKEN": LYTICS_TOKEN,
            "LYTICS_BASE_URL": f"http://127.0.0.1:{sandbox.lytics_port}",
            "SAILTHRU_API_KEY": API_KEY,
            "SAILTHRU_API_SECRET": secret_of(API_KEY),
            "SAILTHRU_BASE_URL": f"http://127.0.0.1:{sandbox.port}",
            "SAILTHRU_TIMEOUT_SECONDS": "2",
            "SAILTHRU_RATE_SHARE": str(SHARE),
            "PORT": str(self.port),
            "SKEW_SECONDS": str(skew),
        }
        self.log = folder / f"replica{number}.log"
        self.process = Process(list(words or ["serve"]), env, self.log, module="tests.promises.skewed")
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=30
        )

    def start(self) -> None:
        self.process.start()

    def send(self, body: object) -> httpx.Response:
        return self.http.post("/webhooks/lytics", json=body, headers={"Authorization": WEBHOOK_TOKEN})

    def wait(self) -> None:
        def is_ready() -> bool:
            assert self.process.is_running, self.log.read_text()[-3000:]
            return is_up(self.http, "/health/ready")

        until(is_ready, bool)

    def close(self) -> None:
        self.http.close()
        self.process.end()


@dataclass
class Cluster:
    """Replicas with their database server and sandbox."""

    folder: Path
    server: postgresql.Server
    sandbox: LimitedSandbox
    replicas: list[Replica]

    def add(self, url: str, *words: str, skew: float = 0) -> Replica:
        """Start another replica with the database at this URL."""
        replica = Replica(self.folder, self.sandbox, url, len(self.replicas), skew, *words)
        self.replicas.append(replica)
        replica.start()
        return replica

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()

    def exports(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin("/exports")["items"]
        return found

    def wait_until_delivered(self, patience: float = 60) -> None:
        """Wait until no export has pending changes."""
        until(
            lambda: [(e["state"], e["counts"]["pending"]) for e in self.exports()],
            lambda states: states and all(state == ("running", 0) for state in states),
            patience=patience,
        )

    def admin(self, path: str, *, method: str = "GET", json: object = None) -> Any:
        """Return the answer of the first available replica."""
        deadline = time.monotonic() + 60
        while True:
            for replica in self.replicas:
                try:
                    answer = replica.http.request(method, path, json=json)
                except httpx.TransportError:
                    continue
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    assert answer.is_success, answer.text
                    return answer.json()
            assert time.monotonic() < deadline
            time.sleep(0.2)


@contextmanager
def running_cluster(folder: Path, *roles: tuple[str, ...]) -> Iterator[Cluster]:
    """Start one replica for each role. A role is a command line; an empty one means `serve`.

    The clock of each replica is an hour ahead of the previous one, and the average of all clocks is correct.
    """
    with ExitStack() as stack:
        server = stack.enter_context(postgresql.server())
        sandbox = LimitedSandbox(folder)
        stack.callback(sandbox.close)
        cluster = Cluster(folder, server, sandbox, [])
        stack.callback(cluster.close)
        for number, words in enumerate(roles):
            cluster.add(server.url, *words, skew=(number - (len(roles) - 1) / 2) * HOUR_SECONDS)
        for replica in cluster.replicas:
            replica.wait()
        yield cluster
