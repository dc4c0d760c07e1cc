"""SQLite: one writer, whose transactions run one after the other, and several readers beside it."""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.clock import wall_clock
from app.store.database.notifications import Notifications
from app.store.database.timeouts import WAIT_SECONDS
from app.store.database.transactions import T, Work, json_text
from app.store.database.unavailable import raise_unavailable
from app.store.database.url import sqlite_path

READERS = 4


class SqliteTransactions:
    """Transactions of one file. Each runs in a thread, so that it does not block the event loop.

    Implements `Transactions`.
    """

    def __init__(self, url: URL, *, is_exclusive: bool) -> None:
        path = sqlite_path(url)
        _create_private_file(path)
        self.clock: Callable[[], datetime] = wall_clock
        self.is_shared = False
        self._lock = _lock_for_this_process(path) if is_exclusive else None
        self._write = _engine(url, 1, _set_pragmas, _begin_immediate)
        self._read = _engine(url, READERS, _set_pragmas_for_reading, _begin_deferred)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def write(self, work: Work[T]) -> T:
        return await _run(self._writer, self._write, work)

    async def change(self, work: Work[T]) -> T:
        return await self.write(work)

    async def read(self, work: Work[T]) -> T:
        return await _run(self._readers, self._read, work)

    async def close(self) -> None:
        for threads in (self._readers, self._writer):
            threads.shutdown()
        self._read.dispose()
        self._write.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def notifications(self, on_notification: Callable[[str], None]) -> Notifications | None:  # noqa: ARG002 - interface
        return None


def _engine(url: URL, size: int, on_connect: Callable[..., None], on_begin: Callable[..., None]) -> Engine:
    engine = create_engine(url, pool_size=size, max_overflow=0, hide_parameters=True, json_serializer=json_text)
    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


async def _run(threads: Executor, engine: Engine, work: Work[T]) -> T:
    in_turn = partial(_transaction, engine, work, time.monotonic())
    return await asyncio.get_running_loop().run_in_executor(threads, in_turn)


def _transaction(engine: Engine, work: Work[T], asked_at: float) -> T:
    if time.monotonic() - asked_at > WAIT_SECONDS:
        raise StoreUnavailable("The database could not be used (waited too long for other transactions).")
    with raise_unavailable(), engine.begin() as connection:
        return work(connection)


def lock_file(path: Path) -> Path:
    """Return the path of the lock file of an SQLite file."""
    return path.with_name(f"{path.name}.lock")


def copy_sqlite(path: Path, copy: Path) -> None:
    """Copy an SQLite file, including commits that are still in its write-ahead log."""
    _create_private_file(copy)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def read_only_engine(path: Path, *, is_unused: bool) -> Engine:
    """Return an engine that changes neither an SQLite file nor the files beside it.

    Only the -shm file of a killed service may be rebuilt. It holds no data.

    Args:
        is_unused: True if no other process has the file open.
    """
    # SQLite would create -wal and -shm files even for reading. `immutable` prevents that, but ignores an existing -wal
    # file. https://www.sqlite.org/uri.html#uriimmutable
    has_wal = path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if is_unused and not has_wal else "mode=ro"
    address = f"file:{quote(str(path.absolute()))}?{mode}"
    # Statements run one after the other, but not always in the same thread.
    connect = partial(sqlite3.connect, address, uri=True, timeout=WAIT_SECONDS, check_same_thread=False)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _create_private_file(path: Path) -> None:
    # SQLite gives the -wal and -shm files the mode of this one.
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise BadSettings(
            f"The database file {path} can't be written ({error.strerror}): correct its mode, or change DATABASE_URL."
        ) from error


def _lock_for_this_process(path: Path) -> int:
    # The kernel releases the lock at the end of the process, even if it is killed.
    lock = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BadSettings(
            f"Another process uses {path}: only one process can use an SQLite file, so stop the other one first."
        ) from error
    return lock


def _set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions itself: with its deferred BEGIN, another writer could commit between our
    # read and our write. The write would then fail at once, in spite of the busy timeout.
    # https://www.sqlite.org/isolation.html
    raw: Any = connection
    raw.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # NORMAL can lose the last commits in a power failure; an acknowledged webhook must not be lost.
        # https://www.sqlite.org/pragma.html#pragma_synchronous
        "synchronous=FULL",
        f"busy_timeout={WAIT_SECONDS * 1000}",
        "foreign_keys=ON",
        # Erased addresses must not stay in the file's free space. Most builds of SQLite have this default.
        # https://www.sqlite.org/pragma.html#pragma_secure_delete
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_pragmas_for_reading(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    _set_pragmas(connection, entry)
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
