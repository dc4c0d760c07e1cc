"""durable, while the database is not writable: webhooks get 503, no accepted change is lost, the service resumes."""

import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from app.sandbox.lytics import webhooks
from tests import postgresql
from tests.promises.processes import WEBHOOK_TOKEN, Sandbox, Service, until
from tests.sizes import size

DISK_BYTES = 8 * 1024 * 1024
ROOM_BYTES = 512 * 1024
SERVERS_DISK_BYTES = 256 * 1024 * 1024
SENDERS = 8
REFUSALS = size(16, 40)
# A transaction waits 10 seconds for a lock, and a request may first wait for an earlier transaction.
LONGEST_ANSWER_SECONDS = 25


class Disk(Protocol):
    def fill(self, service: Service) -> None:
        """Leave room for a few more webhooks."""
        ...

    def make_room(self, service: Service) -> None: ...


@dataclass
class SmallDisk:
    """A file system of a few megabytes, filled by another file."""

    folder: Path

    def fill(self, service: Service) -> None:
        free = shutil.disk_usage(self.folder).free
        (self.folder / "ballast").write_bytes(bytes(free - ROOM_BYTES))

    def make_room(self, service: Service) -> None:
        (self.folder / "ballast").unlink()


@dataclass
class SmallFiles:
    """A limit on the size of the process's files. It needs no permission to mount."""

    folder: Path

    def fill(self, service: Service) -> None:
        largest = max(path.stat().st_size for path in self.folder.iterdir())
        self._limit(service, largest + ROOM_BYTES)

    def make_room(self, service: Service) -> None:
        self._limit(service, resource.RLIM_INFINITY)

    def _limit(self, service: Service, size: int) -> None:
        if service.process.is_running:
            assert service.process.running is not None
            pid = service.process.running.pid
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    with mounted(folder, DISK_BYTES, mode="0700"):
        yield SmallDisk(folder)


@contextmanager
def mounted(folder: Path, size: int, *, mode: str) -> Iterator[None]:
    """Mount a file system in memory with this many bytes."""
    folder.mkdir(mode=int(mode, 8))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot mount a file system here; for SQLite another test limits the size of files")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[Disk]:
    yield SmallFiles(folder)


@dataclass
class Lytics:
    """Several workers that send one enter after the other, and record the answers."""

    service: Service
    sent: int = 0
    accepted: set[str] = field(default_factory=set)
    refused: list[httpx.Response] = field(default_factory=list)
    others: list[httpx.Response] = field(default_factory=list)
    slowest: float = 0

    def send_until(self, is_enough: Callable[[], bool]) -> None:
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(lambda _: self._send(is_enough), range(SENDERS)))

    def _send(self, is_enough: Callable[[], bool]) -> None:
        headers = {"Authorization": WEBHOOK_TOKEN}
        url = f"http://127.0.0.1:{self.service.port}/webhooks/lytics"
        with httpx.Client(headers=headers, timeout=2 * LONGEST_ANSWER_SECONDS) as client:
            while not is_enough():
                self.sent += 1
                address = f"person{self.sent}.{id(client)}@example.com"
                began = time.monotonic()
                answer = client.post(url, json=webhooks.enter(address, at=datetime.now(UTC)))
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code == 200:
                    self.accepted.add(address)
                else:
                    (self.refused if answer.status_code == 503 else self.others).append(answer)

    def send_more(self, count: int) -> None:
        """Send until the service has accepted this many more events."""
        target = len(self.accepted) + count
        self.send_until(lambda: len(self.accepted) >= target)


@dataclass
class Scene:
    """A running service on a disk that the test can fill. Some members are already delivered."""

    service: Service
    sandbox: Sandbox
    disk: Disk
    lytics: Lytics

    def fill(self) -> None:
        """Fill the disk, and send webhooks until enough of them are refused."""
        self.disk.fill(self.service)
        self.lytics.send_until(lambda: len(self.lytics.refused) >= REFUSALS)

    def wait_until_all_are_delivered(self) -> None:
        until(self.sandbox.members, lambda members: self.lytics.accepted <= members)
        self.service.wait_until_delivered()


@pytest.fixture
def kind() -> str:
    """Disable the parametrization, because each scene chooses its database."""
    return "sqlite"


@contextmanager
def _scene(folder: Path, disk: Disk, **env: str) -> Iterator[Scene]:
    with ExitStack() as stack:
        sandbox = Sandbox(folder)
        stack.callback(sandbox.close)
        service = Service(folder, sandbox, **env)
        stack.callback(service.close)
        service.start()
        scene = Scene(service, sandbox, disk, Lytics(service))
        scene.lytics.send_more(5)
        scene.wait_until_all_are_delivered()
        yield scene


@contextmanager
def disk_of_service(folder: Path) -> Iterator[Scene]:
    with small_disk(folder / "data") as disk, _scene(folder, disk) as scene:
        yield scene


@contextmanager
def files_of_service(folder: Path) -> Iterator[Scene]:
    with small_files(folder / "data") as disk, _scene(folder, disk) as scene:
        yield scene


@contextmanager
def disk_of_server(folder: Path) -> Iterator[Scene]:
    """Run PostgreSQL on a small disk. Tables cannot grow, while the write-ahead log reuses its files."""
    options = {"min_wal_size": "32MB", "max_wal_size": "32MB", "fsync": "on"}
    with ExitStack() as stack:
        # `tmp_path` is accessible to its owner only, and the server runs as another user.
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disk-")))
        parent.chmod(0o755)
        disk = parent / "disk"
        stack.enter_context(mounted(disk, SERVERS_DISK_BYTES, mode="0755"))
        server = stack.enter_context(postgresql.server(disk, **options))
        yield stack.enter_context(_scene(folder, SmallDisk(disk), DATABASE_URL=server.url))


@pytest.fixture(params=size([files_of_service, disk_of_server], [disk_of_service, files_of_service, disk_of_server]))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with request.param(tmp_path) as scene:
        yield scene


def store_state(service: Service) -> str:
    answer = service.http.get("/health/ready").raise_for_status()
    state: str = answer.json()["store"]
    return state


def test_full_disk_refuses_webhooks_and_recovers_without_restart(scene: Scene) -> None:
    """While the disk is full, webhooks get 503 with Retry-After, and the service stays ready.

    Once there is room, the same process resumes. The list holds exactly the members of accepted webhooks.
    """
    scene.fill()
    full = until(lambda: store_state(scene.service), lambda state: state == "unavailable", patience=10)
    readable = scene.service.http.get("/exports").status_code
    process = scene.service.process.running
    scene.disk.make_room(scene.service)
    scene.lytics.send_more(20)
    scene.wait_until_all_are_delivered()
    until(lambda: store_state(scene.service), lambda state: state == "ok")

    assert full == "unavailable"
    assert readable == 200
    assert scene.service.process.is_running
    assert scene.service.process.running is process
    assert scene.lytics.others == []
    assert {answer.headers.get("Retry-After") for answer in scene.lytics.refused} == {"30"}
    assert scene.sandbox.members() == scene.lytics.accepted
    assert scene.service.export()["counts"]["accepted"] == len(scene.lytics.accepted)


def test_sigkill_on_a_full_disk_loses_no_accepted_event(scene: Scene) -> None:
    """Events that got 200 before or during the full disk exist after a restart."""
    scene.fill()
    scene.service.process.kill()
    scene.disk.make_room(scene.service)
    scene.service.start()
    accepted = scene.service.export()["counts"]["accepted"]
    scene.wait_until_all_are_delivered()

    assert scene.lytics.others == []
    assert accepted == len(scene.lytics.accepted)
    assert scene.sandbox.members() == scene.lytics.accepted


def test_locked_database_refuses_webhooks_and_recovers_without_restart(tmp_path: Path) -> None:
    """Another process locks the SQLite file. Each webhook waits ten seconds for it and gets 503.

    The service resumes once the file is unlocked.
    """
    with _scene(tmp_path, SmallFiles(tmp_path)) as scene:
        began = time.monotonic()
        with closing(sqlite3.connect(scene.service.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            # Each sender sends once: the first refusal ends all of them.
            scene.lytics.send_until(lambda: bool(scene.lytics.refused))
            locked = store_state(scene.service)
            readable = scene.service.http.get("/exports").status_code
        held = time.monotonic() - began
        scene.lytics.send_more(20)
        scene.wait_until_all_are_delivered()
        until(lambda: store_state(scene.service), lambda state: state == "ok")

        assert (locked, readable) == ("unavailable", 200)
        assert held >= 10
        assert len(scene.lytics.refused) == SENDERS
        assert scene.lytics.slowest <= LONGEST_ANSWER_SECONDS
        assert scene.lytics.others == []
        assert {answer.headers.get("Retry-After") for answer in scene.lytics.refused} == {"30"}
        assert scene.sandbox.members() == scene.lytics.accepted
