"""TODO."""

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

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
)
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.clock import wall_clock
from app.store.database.notifications import Notifications
from app.store.database.timeouts import WAIT_SECONDS
from app.store.database.transactions import T, Work, _json
from app.store.database.unavailable import _as_unavailable
from app.store.database.url import sqlite_path

READERS = 4


class OneWriter:
    """SQLite: one writer, whose transactions follow one another, and several readers beside it.

    A transaction runs on a thread of its own from beginning to end, so that it costs the event loop one turn, and holds
    nobody up there.
    """

    def __init__(self, url: URL, *, is_exclusive: bool) -> None:
        path = sqlite_path(url)
        _make_private_file(path)
        self.clock: Callable[[], datetime] = wall_clock
        self.is_shared = False
        self.at_once = 1
        self._lock = _take_lock(path) if is_exclusive else None
        self._write = create_engine(url, pool_size=1, max_overflow=0, hide_parameters=True, json_serializer=_json)
        self._read = create_engine(url, pool_size=READERS, max_overflow=0, hide_parameters=True, json_serializer=_json)
        event.listen(self._write, "connect", _set_pragmas)
        event.listen(self._write, "begin", _begin_immediate)
        event.listen(self._read, "connect", _set_pragmas_for_reading)
        event.listen(self._read, "begin", _begin_deferred)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def write(self, work: Work[T]) -> T:
        """See `Transactions`."""
        return await _run(self._writer, self._write, work)

    async def change(self, work: Work[T]) -> T:
        """See `Transactions`."""
        return await self.write(work)

    async def read(self, work: Work[T]) -> T:
        """See `Transactions`."""
        return await _run(self._readers, self._read, work)

    async def close(self) -> None:
        """See `Transactions`; the file lock goes last."""
        for threads in (self._readers, self._writer):
            threads.shutdown()
        self._read.dispose()
        self._write.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def notifications(self, on_notification: Callable[[str], None]) -> "Notifications | None":  # noqa: ARG002 - its interface
        """See `Transactions`."""
        return None


async def _run(threads: Executor, engine: Engine, work: Work[T]) -> T:
    in_turn = partial(_transaction, engine, work, time.monotonic())
    return await asyncio.get_running_loop().run_in_executor(threads, in_turn)


def _transaction(engine: Engine, work: Work[T], asked_at: float) -> T:
    if time.monotonic() - asked_at > WAIT_SECONDS:
        raise StoreUnavailable("The database could not be used (others waited for it for too long).")
    with _as_unavailable(), engine.begin() as connection:
        return work(connection)


def lock_file(path: Path) -> Path:
    """What a process holds for as long as it uses the SQLite file of this path."""
    return path.with_name(f"{path.name}.lock")


def copy_sqlite(path: Path, copy: Path) -> None:
    """Copy an SQLite file with all that was committed, also what still stands in its write-ahead log."""
    _make_private_file(copy)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _make_private_file(path: Path) -> None:
    """Make the file before SQLite does, since SQLite gives its own files the mode of this one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise BadSettings(
            f"The database file {path} can't be written ({error.strerror}): change DATABASE_URL."
        ) from error


def _take_lock(path: Path) -> int:
    """Hold the file for this process; the kernel gives it back when the process ends, however it ends."""
    lock = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BadSettings(
            f"Another process uses {path}: an SQLite file belongs to one process, so stop that one first."
        ) from error
    return lock


def _set_pragmas(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver must not open transactions on its own: a deferred one that reads and then writes is refused at once
    # where another writer was faster, whatever the busy timeout. https://www.sqlite.org/isolation.html
    raw: Any = connection
    raw.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # NORMAL may lose the last commits when the power fails; an acknowledged webhook must not be lost.
        # https://www.sqlite.org/pragma.html#pragma_synchronous
        "synchronous=FULL",
        f"busy_timeout={WAIT_SECONDS * 1000}",
        "foreign_keys=ON",
        # Who was erased must not be read in the file's free space; as most builds of SQLite do anyway.
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
