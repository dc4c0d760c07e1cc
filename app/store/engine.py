"""
Opens the database. Every difference between SQLite and PostgreSQL stands in this file.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple

from pydantic_core import to_json
from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Row,
    Select,
    Table,
    bindparam,
    cast,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.prepared import Prepared, Values

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A writer waits this long for its turn before the store counts as unavailable; Lytics hears 503 and comes again.
WAIT_SECONDS = 10
READERS = 4
# On a full disk small transactions may still fit: one that works says nothing for so long after one that failed.
RECENT_SECONDS = 5
TRIAL_SECONDS = 1


class Database:
    """
    One writer, whose transactions follow one another, and several readers beside it.

    What is done in a transaction is an ordinary function of a connection. It runs on a thread of its own from beginning
    to end, so that a transaction costs the event loop one turn, and holds nobody up there.

    Open it with `Database.open(url)`; close it with `close()`.
    """

    def __init__(self, write: Engine, read: Engine, lock: int | None) -> None:
        self._write = write
        self._read = read
        self._lock = lock
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._refused_at: float | None = None
        self._trial: asyncio.Task[None] | None = None
        self._is_closed = False

    @classmethod
    def open(cls, url: str, *, is_exclusive: bool = True) -> Self:
        """
        The database that `DATABASE_URL` names; nothing is read yet.

        An SQLite file is made if need be, readable by its owner alone, and held by a file lock: one process owns it.

        Raises:
            BadSettings: the URL is of neither kind, or another process holds the file.
        """
        parsed = parse_url(url)
        path = sqlite_path(parsed)
        _make_private_file(path)
        lock = _take_lock(path) if is_exclusive else None
        write = create_engine(parsed, pool_size=1, max_overflow=0, hide_parameters=True, json_serializer=_json)
        read = create_engine(parsed, pool_size=READERS, max_overflow=0, hide_parameters=True, json_serializer=_json)
        event.listen(write, "connect", _set_pragmas)
        event.listen(write, "begin", _begin_immediate)
        event.listen(read, "connect", _set_pragmas_for_reading)
        event.listen(read, "begin", _begin_deferred)
        return cls(write, read, lock)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """
        What `work` returns, once its transaction is committed and synced to disk; if it raises, nothing of it is kept.

        Raises:
            StoreUnavailable: the disk is full, the file is locked, or the database can't be reached.
        """
        try:
            return await self._run(self._writer, partial(_transaction, self._write, work, time.monotonic()))
        except StoreUnavailable:
            self._refused_at = time.monotonic()
            raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        """
        What `work` returns; it only reads, and sees one state throughout.

        Raises:
            StoreUnavailable: the database can't be reached.
        """
        return await self._run(self._readers, partial(_transaction, self._read, work, time.monotonic()))

    async def rows(self, statement: Select[*Ts]) -> Sequence[Row[*Ts]]:
        """
        All rows of one SELECT.
        """
        return await self.read(lambda connection: connection.execute(statement).all())

    async def ping(self) -> None:
        """
        Ask the database for nothing; after a write that failed also whether it takes writes again.

        Raises:
            StoreUnavailable: it does not answer, a write failed in the last 5 seconds, or a trial does not work.
        """
        await self.rows(select(1))
        if self._refused_at is not None and time.monotonic() - self._refused_at >= RECENT_SECONDS:
            # One trial for all who ask; it may wait for a lock for longer than they should.
            if self._trial is None or self._trial.done():
                self._trial = asyncio.create_task(self._try_to_write())
            await asyncio.wait({self._trial}, timeout=TRIAL_SECONDS)
        if self._refused_at is not None:
            raise StoreUnavailable("The database takes no writes.")

    async def _try_to_write(self) -> None:
        with suppress(StoreUnavailable):
            await self.write(lambda connection: connection.exec_driver_sql(_TRIALS[connection.dialect.name]))
            self._refused_at = None

    async def close(self) -> None:
        """
        Give everything back, the file lock last.
        """
        if self._trial is not None:
            await asyncio.wait({self._trial})
        self._is_closed = True
        for threads in (self._readers, self._writer):
            threads.shutdown()
        self._read.dispose()
        self._write.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _run(self, threads: Executor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreUnavailable("The database is closed.")
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _json(value: object) -> str:
    # Six times as fast as the standard library's, which makes its writer anew for each value.
    return to_json(value).decode()


def _transaction(engine: Engine, work: Callable[[Connection], T], asked_at: float) -> T:
    if time.monotonic() - asked_at > WAIT_SECONDS:
        raise StoreUnavailable("The database could not be used (others waited for it for too long).")
    with _as_unavailable(), engine.begin() as connection:
        return work(connection)


# Each changes nothing, and yet is written and synced.
_TRIALS = {"sqlite": "PRAGMA user_version=0", "postgresql": "SELECT pg_current_xact_id()"}


class _as_unavailable:  # noqa: N801 - reads as a word in a `with`
    """
    Turns what the driver raises when the database can't be used just now into `StoreUnavailable`.

    A statement or a value that it refuses is a mistake of ours and stays what it is.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError | DataError | ProgrammingError):
            return
        if isinstance(error, DBAPIError | PoolTimeoutError):
            # The driver's own text may quote a statement; its class says enough.
            cause = type(error.orig).__name__ if isinstance(error, DBAPIError) else "no free connection"
            raise StoreUnavailable(f"The database could not be used ({cause}).") from error
        if isinstance(error, SQLAlchemyError | OSError):
            raise StoreUnavailable(f"The database could not be used ({type(error).__name__}).") from error


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """
    An INSERT that knows ON CONFLICT, in the words of the database at hand.
    """
    return _insert(connection.dialect.name, table)


def insert_or_nothing(connection: Connection, table: Table) -> Insert:
    """
    An INSERT that leaves a row that is already there as it is.
    """
    return _insert_or_nothing(connection.dialect.name, table)


def lock_table(connection: Connection, table: Table, *, is_exclusive: bool) -> None:
    """
    Until the end of the transaction, whoever holds a table exclusively and those who share it keep each other waiting.

    What is read afterwards is what the other has committed. Readers pass. SQLite needs nothing for it: there one
    writing transaction follows another anyway.
    """
    if connection.dialect.name == "postgresql":
        mode = "EXCLUSIVE" if is_exclusive else "ROW SHARE"
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN {mode} MODE")


def hold(connection: Connection, statement: Prepared, keys: Sequence[Values]) -> None:
    """
    Make sure by an `insert_or_nothing` that rows of these keys are there to be locked: else two transactions that find
    nothing could both go on. SQLite needs nothing for it, see `lock_table`.
    """
    if connection.dialect.name == "postgresql":
        statement.run(connection, keys)


def upsert(connection: Connection, table: Table) -> Insert:
    """
    An INSERT that overwrites every column but the key of a row that is already there.
    """
    return _upsert(connection.dialect.name, table)


def upsert_adding(connection: Connection, table: Table) -> Insert:
    """
    An INSERT that, where a row is already there, adds every column but the key to it.
    """
    return _upsert_adding(connection.dialect.name, table)


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """
    A condition: the column is one of the values of a list, given as the parameter of this name.

    However long the list, it is one parameter and the statement the same. `in_` makes another one for each length.
    """
    each = _Each(bindparam(name, type_=JSON())).table_valued("value")
    return column.in_(select(cast(each.c.value, column.type)))


class _Each(FunctionElement[Any]):
    """
    The values of a JSON array, as rows.
    """

    inherit_cache = True


@compiles(_Each)
def _each(element: _Each, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - its interface
    return f"json_each{compiler.process(element.clause_expr, **more)}"


@compiles(_Each, "postgresql")
def _each_on_postgresql(element: _Each, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - its interface
    return f"json_array_elements_text{compiler.process(element.clause_expr, **more)}"


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


# Kept, since building such a statement anew costs more than running it.
@cache
def _insert_or_nothing(dialect: str, table: Table) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _upsert(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    new = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


@cache
def _upsert_adding(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    sums = {c.name: c + statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=sums)


def parse_url(url: str) -> URL:
    """
    What `DATABASE_URL` says.

    Raises:
        BadSettings: it is no URL, or of a kind that this version can't open. The sentence does not quote it, since it
            may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadSettings("DATABASE_URL can't be read as the URL of a database: use sqlite:///FILE.") from None
    if parsed.get_backend_name() != "sqlite":
        raise BadSettings(
            f"DATABASE_URL starts with {parsed.drivername!r}, which this version can't open: use sqlite:///FILE."
        )
    return parsed


def sqlite_path(url: URL) -> Path:
    """
    The file of an SQLite URL.
    """
    if not url.database or url.database == ":memory:":
        raise BadSettings(
            "DATABASE_URL names no file: what is only in memory is lost with the process; use sqlite:///FILE."
        )
    return Path(url.database)


def lock_file(path: Path) -> Path:
    """
    What a process holds for as long as it uses the SQLite file of this path.
    """
    return path.with_name(f"{path.name}.lock")


def copy_sqlite(path: Path, copy: Path) -> None:
    """
    Copy an SQLite file with all that was committed, also what still stands in its write-ahead log.
    """
    _make_private_file(copy)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _make_private_file(path: Path) -> None:
    """
    Make the file before SQLite does, since SQLite gives its own files the mode of this one.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise BadSettings(
            f"The database file {path} can't be written ({error.strerror}): change DATABASE_URL."
        ) from error


def _take_lock(path: Path) -> int:
    """
    Hold the file for this process; the kernel gives it back when the process ends, however it ends.
    """
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
