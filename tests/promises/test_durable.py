"""durable: 200 is sent only after the change is committed and synced to disk; no accepted change is ever lost."""

import random
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.sandbox.lytics import webhooks
from tests import postgresql
from tests.promises.kinds import sqlite_in_small_runs
from tests.promises.processes import WEBHOOK_TOKEN, Sandbox, Service, running, until
from tests.sizes import size

kind = sqlite_in_small_runs()

# PostgreSQL gets fewer kills, because its server holds the data and is not killed.
KILLS = {"sqlite": size(2, 12), "postgresql": size(1, 4)}
# How Sailthru holds the open calls of the killed process, and how it ends them.
HOLDS = [("before", "apply"), ("apply", "drop"), *size([], [("before", "apply"), ("before", "drop")])]
TIMES = {"sqlite": size(1, 2), "postgresql": 1}
SENDERS = 8


class Load:
    """Lytics with several workers. Each sends an event again until the answer is 200."""

    def __init__(self, service: Service) -> None:
        self._url = f"http://127.0.0.1:{service.port}/webhooks/lytics"
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._number = 0
        self.acknowledged: set[str] = set()
        self.failed = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        with httpx.Client(headers={"Authorization": WEBHOOK_TOKEN}, timeout=5) as client:
            while not self._stopped.is_set():
                with self._lock:
                    self._number += 1
                    address = f"person{self._number}@example.com"
                body = webhooks.enter(address, at=datetime.now(UTC))
                while not self._post(client, body):
                    # Do not waste CPU time on refused connections.
                    time.sleep(0.05)
                self.acknowledged.add(address)

    def _post(self, client: httpx.Client, body: object) -> bool:
        try:
            return client.post(self._url, json=body).status_code == 200
        except httpx.TransportError:
            self.failed += 1
            # A killed process may have stored the event without an answer, so the event is sent again.
            return False


@pytest.mark.timeout(300)
def test_accepted_events_survive_sigkill_at_random_moments(tmp_path: Path, kind: str) -> None:
    """The process is killed under load, sometimes while Sailthru holds calls open.

    The final list holds the members of all accepted webhooks, and no flow starts twice.
    """
    dice = random.Random(20261123)
    held_at_kill = 0
    with running(tmp_path, SAILTHRU_TIMEOUT_SECONDS="6") as (service, sandbox):
        # With this timeout a lease takes 14 seconds, longer than any restart here.
        # A repeated join starts the flow again, so the test sees every repeated join.
        sandbox.control("switches", rejoin_fires=True)
        load = Load(service)
        with load.running():
            for hold in [None] * KILLS[kind] + HOLDS * TIMES[kind]:
                if hold is not None:
                    after, then = hold
                    sandbox.control("hold", after=after, then=then, methods=["POST"], endpoints=["/user"])
                    until(sandbox.state, lambda state: state["held"] > 0)
                time.sleep(dice.uniform(0, 0.8))
                held = sandbox.state()["held"]
                service.process.kill()
                if hold is not None:
                    held_at_kill += held > 0
                    until(sandbox.state, lambda state: state["held"] == state["held_abandoned"])
                service.start()
                if hold is not None:
                    # Sailthru ends the calls of the killed process only after the next process has made calls.
                    # A process that ignored the old leases would read too early and join a second time.
                    until(sandbox.state, lambda state: state["held"] > state["held_abandoned"])
                    sandbox.control("release")
        members = until(sandbox.members, lambda members: load.acknowledged <= members)
        export = service.wait_until_delivered()
        joins = Counter(sandbox.joins())
        account = sandbox.account()

    assert held_at_kill >= size(1, 3 * TIMES[kind] - 1)
    assert load.failed > 0
    assert members == load.acknowledged
    assert {address: count for address, count in joins.items() if count > 1} == {}
    assert account["most_at_once_per_person"] == 1
    assert export["counts"]["accepted"] == len(load.acknowledged)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed, so syncs to disk can't be counted")
@pytest.mark.parametrize("kind", ["sqlite"])
def test_each_200_follows_a_sync_to_disk(tmp_path: Path) -> None:
    """N webhooks in sequence cause at least N syncs."""
    count = size(20, 50)
    summary = tmp_path / "strace.txt"
    sandbox = Sandbox(tmp_path)
    try:
        # Without a Lytics token the export gets no name, so nothing is delivered. Nearly all syncs are of webhooks.
        service = Service(tmp_path, sandbox, LYTICS_API_TOKEN="")
        service.process.prefix = ["strace", "-f", "-c", "-e", "trace=fdatasync", "-o", str(summary)]
        try:
            service.start()
            for number in range(count):
                answer = service.send(webhooks.enter(f"person{number}@example.com", at=datetime.now(UTC)))
                assert answer.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
            pending = service.export()["counts"]["pending"]
            _terminate_child(service)
        finally:
            service.close()
    finally:
        sandbox.close()

    assert pending == count
    (line,) = [line for line in summary.read_text().splitlines() if line.endswith("fdatasync")]
    calls = int(re.split(r"\s+", line.strip())[3])
    assert calls >= count


@pytest.mark.parametrize("kind", ["postgresql"])
def test_each_200_follows_a_sync_of_the_server(tmp_path: Path) -> None:
    """The service requests synchronous commits, although the server's default is asynchronous."""
    count = size(20, 50)
    sandbox = Sandbox(tmp_path)
    # With these defaults the server would sync once in ten seconds.
    with postgresql.server(fsync="on", synchronous_commit="off", wal_writer_delay="10s") as server:
        service = Service(tmp_path, sandbox, LYTICS_API_TOKEN="", DATABASE_URL=server.url)
        try:
            service.start()
            before = _syncs(server)
            for number in range(count):
                answer = service.send(webhooks.enter(f"person{number}@example.com", at=datetime.now(UTC)))
                assert answer.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
            # PostgreSQL publishes its statistics at most once a second.
            until(lambda: _syncs(server) - before, lambda syncs: syncs >= count, patience=10)
        finally:
            service.close()
            sandbox.close()


def _syncs(server: postgresql.Server) -> int:
    """Return the number of syncs of the server's write-ahead log."""
    (version,) = postgresql.apart(postgresql.fetch(server.url, "SELECT current_setting('server_version_num')::int"))[0]
    where = "sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'" if version >= 180000 else "wal_sync FROM pg_stat_wal"
    (syncs,) = postgresql.apart(postgresql.fetch(server.url, f"SELECT {where}"))[0]
    return int(syncs)


def _terminate_child(service: Service) -> None:
    """Send SIGTERM to the program under strace. Then strace writes its summary and ends too."""
    assert service.process.running is not None
    strace = service.process.running.pid
    children = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()
    for child in children:
        subprocess.run(["kill", "-TERM", child], check=True)
    service.process.running.wait(30)


def test_sigterm_drains_the_service(both: tuple[Service, Sandbox]) -> None:
    """Calls in flight finish and are settled. Meanwhile webhooks get 503 with Retry-After."""
    service, sandbox = both
    service.send_all([webhooks.enter("first@example.com", at=datetime.now(UTC))])
    service.wait_until_delivered()
    sandbox.control("hold", after="before", then="drop", methods=["POST"], endpoints=["/user"])
    service.send_all([webhooks.enter(f"person{n}@example.com", at=datetime.now(UTC)) for n in range(5)])
    until(sandbox.state, lambda state: state["held"] == 5)
    assert service.process.running is not None
    service.process.running.terminate()
    refused = until(
        lambda: service.send(webhooks.enter("late@example.com", at=datetime.now(UTC))), lambda a: a.status_code == 503
    )
    sandbox.control("release")
    # Not `stop()`: a second signal would end the process at once.
    exit_code = service.process.running.wait(30)
    members = sandbox.members()

    assert refused.headers["Retry-After"] == "30"
    assert exit_code == 0
    assert members == {"first@example.com", *(f"person{n}@example.com" for n in range(5))}
