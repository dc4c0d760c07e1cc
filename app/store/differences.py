"""
Every difference between SQLite and PostgreSQL: how each is opened, how its transactions run, and the few statements
that are said in other words.
"""

import asyncio
import fcntl
import os
import socket
import sqlite3
import ssl
import time
import zlib
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote

from pydantic_core import from_json, to_json
from sqlalchemy import (
    ARRAY,
    JSON,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Float,
    ForeignKeyConstraint,
    Insert,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    cast,
    column,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import DataError as DataRefused
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.schema import AddConstraint, DropConstraint
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.clock import StoreClock, wall_clock
from app.store.schema import UNCHECKED_ON_POSTGRESQL

T = TypeVar("T")
Work = Callable[[Connection], T]
SelectOf = TypeVar("SelectOf", bound=Select[Any])

# A writer waits this long for its turn before the store counts as unavailable; Lytics hears 503 and comes again.
WAIT_SECONDS = 10
READERS = 4
# Connections of one replica to PostgreSQL, for readers and writers together; the doorbell has one more.
CONNECTIONS = 16
# Group commits of one kind that a replica has under way there: while the server works for one of them, and its disk for
# another, we do for the third. Two left our core idle for a fifth of the time, and four had no more to share.
SIDE_BY_SIDE = 3
# A statement that takes longer has lost its server; a session that rests for longer in a transaction its client.
LONGEST_STATEMENT_SECONDS = 30
CHANNEL, EVERYTHING = "lytics_sailthru", "*"
RECONNECT_SECONDS, RING_EVERY_SECONDS = 1.0, 0.01
HOW = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


class Overtaken(Exception):
    """
    Another transaction has just made what this one was about to make, and could not see before: it has to look again.
    """


class Transactions(Protocol):
    """
    Runs work in transactions of one database.

    Attributes:
        clock: the one by which leases are measured: all who use the database have the same.
        is_shared: with other replicas.
        at_once: how many transactions of a group commit go on side by side.
    """

    clock: Callable[[], datetime]
    is_shared: bool
    at_once: int

    def doorbell(self, on_ring: Callable[[str], None]) -> "Doorbell | None":
        """
        What wakes other replicas, and us; None where there are no others.
        """
        ...

    async def write(self, work: Work[T]) -> T:
        """
        What `work` returns, once its transaction is committed and synced to disk. Work that was overtaken begins again.
        """
        ...

    async def change(self, work: Work[T]) -> T:
        """
        The same for work on the tables themselves, which takes as long as it needs.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """
        What `work` returns, which sees one state throughout.
        """
        ...

    async def close(self) -> None:
        """
        Let what is under way end, and give everything back.
        """
        ...


def open_transactions(url: URL, *, is_exclusive: bool) -> Transactions:
    """
    Those of the database that an URL names; nothing is read yet.

    Raises:
        BadSettings: another process holds the SQLite file, or the driver is missing.
    """
    if url.get_backend_name() == "postgresql":
        return Pool(url)
    return OneWriter(url, is_exclusive=is_exclusive)


class OneWriter:
    """
    SQLite: one writer, whose transactions follow one another, and several readers beside it.

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
        """
        See `Transactions`.
        """
        return await _run(self._writer, self._write, work)

    async def change(self, work: Work[T]) -> T:
        """
        See `Transactions`.
        """
        return await self.write(work)

    async def read(self, work: Work[T]) -> T:
        """
        See `Transactions`.
        """
        return await _run(self._readers, self._read, work)

    async def close(self) -> None:
        """
        See `Transactions`; the file lock goes last.
        """
        for threads in (self._readers, self._writer):
            threads.shutdown()
        self._read.dispose()
        self._write.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def doorbell(self, on_ring: Callable[[str], None]) -> "Doorbell | None":  # noqa: ARG002 - its interface
        """
        See `Transactions`.
        """
        return None


async def _run(threads: Executor, engine: Engine, work: Work[T]) -> T:
    in_turn = partial(_transaction, engine, work, time.monotonic())
    return await asyncio.get_running_loop().run_in_executor(threads, in_turn)


def _transaction(engine: Engine, work: Work[T], asked_at: float) -> T:
    if time.monotonic() - asked_at > WAIT_SECONDS:
        raise StoreUnavailable("The database could not be used (others waited for it for too long).")
    with _as_unavailable(), engine.begin() as connection:
        return work(connection)


class Pool:
    """
    PostgreSQL: transactions side by side, as many as there are connections, beside those of all other replicas.

    They run on the event loop, in which asyncpg waits for the server.
    """

    def __init__(self, url: URL) -> None:
        self._clock = StoreClock()
        self.clock: Callable[[], datetime] = self._clock
        self.is_shared = True
        self.at_once = SIDE_BY_SIDE
        self._url = url
        self._engine = _postgresql_engine(
            url,
            LONGEST_STATEMENT_SECONDS,
            _BY_KEY,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_use_lifo=True,
        )
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[T]) -> T:
        """
        See `Transactions`.
        """
        return await self._outlasting(self._until_not_overtaken(work))

    async def change(self, work: Work[T]) -> T:
        """
        See `Transactions`.
        """
        engine = _postgresql_engine(self._url, None, poolclass=NullPool)
        try:
            return await self._outlasting(self._in_transaction(engine, work))
        finally:
            await engine.dispose()

    async def read(self, work: Work[T]) -> T:
        """
        See `Transactions`.
        """
        return await self._outlasting(self._in_transaction(self._reading, work))

    async def close(self) -> None:
        """
        See `Transactions`.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._engine.dispose()

    def doorbell(self, on_ring: Callable[[str], None]) -> "Doorbell | None":
        """
        See `Transactions`.
        """
        return Doorbell(self._engine, self._url, on_ring)

    async def _outlasting(self, transaction: Coroutine[Any, Any, T]) -> T:
        """
        A transaction goes on although its caller goes away: cut off, its connection would be lost with it.
        """
        task = asyncio.create_task(transaction)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _until_not_overtaken(self, work: Work[T]) -> T:
        while True:
            with suppress(Overtaken):
                return await self._in_transaction(self._engine, work)

    async def _in_transaction(self, engine: AsyncEngine, work: Work[T]) -> T:
        with _as_unavailable():
            if self._clock.is_old:
                await self._ask_the_time()
            async with engine.begin() as connection:
                return await connection.run_sync(work)

    async def _ask_the_time(self) -> None:
        """
        Of the server, once a second at most. It also finds out whether a connection that has rested is still good: if
        not, nothing of anybody was lost with it, and another one is tried.
        """
        try:
            await self._look_at_clock()
        except (DBAPIError, OSError):
            await self._look_at_clock()

    async def _look_at_clock(self) -> None:
        async with self._reading.begin() as connection:
            asked_at = time.monotonic()
            told: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            self._clock.learn(told, asked_at, time.monotonic())


class Doorbell:
    """
    Wakes replicas of PostgreSQL that sleep. It only saves time: who hears nothing looks again by itself, after seconds.

    Its connection also shows, by a lock that all replicas share, that the database is in use.

    Args:
        on_ring: told what was rung with, or `EVERYTHING` where something may have been missed.
    """

    def __init__(self, engine: AsyncEngine, url: URL, on_ring: Callable[[str], None]) -> None:
        self._engine = engine
        self._url = url
        self._on_ring = on_ring
        self._wishes: set[str] = set()
        self._wants: asyncio.Event = asyncio.Event()
        self._connection: Any = None

    def ring(self, what: str) -> None:
        """
        Wake the others soon.
        """
        self._wishes.add(what)
        self._wants.set()

    async def connect(self) -> None:
        """
        For the first time, before anything else is done with the database.

        Raises:
            BadSettings: the server does not let us in, or a copy goes into the database.
            StoreUnavailable: it can't be reached.
        """
        import asyncpg

        refusals = (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        )
        self.close()
        try:
            self._connection = await self._connected()
            is_free = await self._connection.fetchval(TRY_TO_SHARE)
        except refusals as error:
            raise BadSettings(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        except driver_errors() as error:
            raise StoreUnavailable(" ".join(why_unreachable(error, self._url, "DATABASE_URL"))) from None
        if not is_free:
            raise BadSettings(
                "A copy goes into the database that DATABASE_URL names: start once `lytics-sailthru copy` has finished."
            )

    async def run(self) -> None:
        """
        Until cancelled; a connection that is lost is made again.
        """
        while True:
            with suppress(*driver_errors()):
                connection, self._connection = self._connection or await self._connected(), None
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_SECONDS)

    def close(self) -> None:
        """
        Give back the connection of one that does not run.
        """
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> Any:  # noqa: ANN401 - asyncpg tells no types
        import asyncpg

        _, how = self._engine.dialect.create_connect_args(self._url)
        return await asyncpg.connect(**how, timeout=WAIT_SECONDS, command_timeout=LONGEST_STATEMENT_SECONDS)

    async def _listen(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg tells no types
        lost = asyncio.Event()
        connection.add_termination_listener(partial(self._lost, lost))
        await connection.execute(f"SELECT pg_advisory_lock_shared({_OURS}, {_IN_USE})")
        await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, what: self._on_ring(what))
        self._on_ring(EVERYTHING)
        while not lost.is_set():
            await self._wants.wait()
            self._wants.clear()
            wishes, self._wishes = self._wishes, set()
            for what in sorted(wishes):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, what)
            # Many wishes of one moment are one ring.
            await asyncio.sleep(RING_EVERY_SECONDS)

    def _lost(self, lost: asyncio.Event, _: object) -> None:
        lost.set()
        self._wants.set()


# What runs for webhooks and calls names the rows that it wants by a key. A plan that was made, and kept, while a table
# was small must not read all of it once it is large, before the server has looked at it again; see `whole_tables`.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


def _postgresql_engine(
    url: URL,
    longest_seconds: float | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    **pool: Any,  # noqa: ANN401 - SQLAlchemy's
) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url,
            hide_parameters=True,
            json_serializer=_json,
            json_deserializer=from_json,
            connect_args={
                "timeout": WAIT_SECONDS,
                "command_timeout": longest_seconds,
                "server_settings": {
                    "application_name": "lytics-sailthru",
                    "lock_timeout": str(WAIT_SECONDS * 1000),
                    # Of a replica that hangs in the middle of a transaction, others must not wait for ever.
                    "idle_in_transaction_session_timeout": str(LONGEST_STATEMENT_SECONDS * 1000),
                    # Compiling a plan takes longer than all that these statements do.
                    "jit": "off",
                    **settings,
                },
            },
            **pool,
        )
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"DATABASE_URL names a PostgreSQL database, for which the package {error.name!r} is missing: install "
            "lytics-sailthru[postgres]."
        ) from None
    event.listen(engine.sync_engine, "connect", _sync_commits)
    return engine


def _sync_commits(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Whatever the server's default is: an acknowledged webhook must not be lost with the last moments before a crash.
    # Other values sync at least to the server's own disk. https://www.postgresql.org/docs/current/wal-async-commit.html
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()


# Each changes nothing, and yet is written and synced.
_TRIALS = {"sqlite": "PRAGMA user_version=0", "postgresql": "SELECT pg_current_xact_id()"}


def try_to_write(connection: Connection) -> None:
    """
    Write nothing, to see whether that works.
    """
    connection.exec_driver_sql(_TRIALS[connection.dialect.name])


# Classes of PostgreSQL's errors that are a mistake of ours: cardinality, data, integrity, syntax and rights.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OUR_MISTAKES = ("21", "22", "23", "42")


class _as_unavailable:  # noqa: N801 - reads as a word in a `with`
    """
    Turns what the driver raises when the database can't be used just now into `StoreUnavailable`.

    A statement or a value that it refuses is a mistake of ours and stays what it is.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError | DataRefused | ProgrammingError):
            return
        if isinstance(error, DBAPIError) and str(getattr(error.orig, "sqlstate", None) or "")[:2] in _OUR_MISTAKES:
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


def lock_table(connection: Connection, table: Table, *, is_exclusive: bool) -> None:
    """
    Until the end of the transaction, whoever holds a table exclusively and those who share it keep each other waiting.

    What is read afterwards is what the other has committed. Who asks for neither passes. SQLite needs nothing for it:
    there one writing transaction follows another anyway.
    """
    if connection.dialect.name == "postgresql":
        lock = "pg_advisory_xact_lock" if is_exclusive else "pg_advisory_xact_lock_shared"
        connection.exec_driver_sql(f"SELECT {lock}({_OURS}, {zlib.crc32(table.name.encode()) & 0x7FFFFFFF})")


# Not the table's own locks: those are also taken by every foreign key that names it.
_OURS = 0x4C53
# The replicas share it for as long as they run.
_IN_USE = 1


def whole_tables(connection: Connection) -> None:
    """
    Until the end of the transaction, statements may read whole tables in the way that is fastest for that.
    """
    if connection.dialect.name == "postgresql":
        for name in _BY_KEY:
            connection.exec_driver_sql(f"SET LOCAL {name} = on")


def lock_row(statement: SelectOf) -> SelectOf:
    """
    A SELECT whose rows nobody else changes until the end of the transaction; foreign keys may still name them.
    """
    return statement.with_for_update(key_share=True)


def leave_room(connection: Connection, table: str, *, filled_percent: int) -> None:
    """
    Fill new pages of a table only so far. PostgreSQL writes a row anew where it is updated; where the page has room for
    it, and no column of an index changed, no index is touched. SQLite updates in place.
    """
    # https://www.postgresql.org/docs/current/storage-hot.html
    if connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.exec_driver_sql(f"ALTER TABLE {quoted} SET (fillfactor = {filled_percent})")


def is_checked(connection: Connection, reference: ForeignKeyConstraint) -> bool:
    """
    Whether the database itself sees to it that what rows refer to is there.

    Some references PostgreSQL does not check: for each new row of a webhook it would lock the row of the export, for
    all transactions at once, and so keep a sixth fewer webhooks a second.
    """
    # https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS (FOR KEY SHARE)
    is_postgresql = connection.dialect.name == "postgresql"
    return not (is_postgresql and any(each.info == UNCHECKED_ON_POSTGRESQL for each in reference.elements))


def stop_checking(connection: Connection, references: Mapping[str, str]) -> None:
    """
    Drop references that PostgreSQL does not check any more; SQLite goes on with them. It fails where others keep it
    waiting, and may be tried again.

    Args:
        references: table → the name of its reference.
    """
    if connection.dialect.name != "postgresql":
        return
    # It waits for all who use the tables, and whoever comes meanwhile waits for it: not for long. Where each has what
    # the other waits for, it gives up before the server looks for somebody who has to.
    # https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT (1 s)
    connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
    quote = connection.dialect.identifier_preparer.quote
    for table, reference in references.items():
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} DROP CONSTRAINT IF EXISTS {quote(reference)}")


def among(of: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """
    A condition: the column is one of the values of a list, given as the parameter of this name.

    However long the list, it is one parameter and the statement the same. `in_` makes another one for each length.
    """
    return _Among(of, bindparam(name, type_=_Several(of.type)))


class _Several(TypeDecorator[Any]):
    """
    A list of values as one parameter.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """
        An array where there are any.
        """
        kind = _array(self.item) if dialect.name == "postgresql" else JSON()
        return dialect.type_descriptor(kind)


def _array(item: TypeEngine[Any]) -> ARRAY[Any]:
    # A cast to an array of limited strings cuts them off without a word.
    return ARRAY(String() if isinstance(item, String) else item)


class _Among(FunctionElement[bool]):
    """
    A column and the list.
    """

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002 - its interface
        """
        As it is beside AND: it is a condition already. SQLite, which has no booleans, would be asked whether it equals
        1, and use no index for it.
        """
        return self


@compiles(_Among)
def _among(element: _Among, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - its interface
    of, values = element.clauses
    value = compiler.process(cast(column("value"), of.type), **more)
    each = f"json_each({compiler.process(values, **more)})"
    # All three are SQL that SQLAlchemy has made; values are parameters in it.
    return f"{compiler.process(of, **more)} IN (SELECT {value} FROM {each})"  # noqa: S608 - see above


@compiles(_Among, "postgresql")
def _among_on_postgresql(element: _Among, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - its interface
    of, values = element.clauses
    return f"{compiler.process(of, **more)} = ANY ({compiler.process(values, **more)})"


def in_bulk(
    statement: Any,  # noqa: ANN401 - of any kind
    names: Sequence[str],
    types: Sequence[TypeEngine[Any]],
    dialect: Dialect,
    prefix: str = "",
) -> Any:  # noqa: ANN401 - of the kind of `statement`
    """
    A statement that does for many rows of values, one array for each parameter, what the one given does for one row;
    None where the driver's own way with many rows is as good.

    Args:
        prefix: of the names of its own parameters, which otherwise are those given.
    """
    if dialect.name != "postgresql":
        return None
    each = _each_row(names, types, prefix)
    if isinstance(statement, Insert):
        return statement.from_select(list(names), select(*each.c))

    def replace(element: object, **_: object) -> object:
        return each.c[element.key] if isinstance(element, BindParameter) and element.key in names else None

    return replacement_traverse(statement, {}, replace)


def as_one(statements: Sequence[Any]) -> Any:  # noqa: ANN401 - of the kind of the first
    """
    One statement of PostgreSQL for several of `in_bulk`, of which none sees what the others change. The first of them
    is run first.
    """
    # Of a statement with others in its WITH, which return nothing, the server runs the main one to its end and then the
    # others. That is how it works, and no promise of its manual; a test sees whether it still does.
    # https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING
    first, *rest = statements
    return first.add_cte(*(one.cte(f"part_{number}") for number, one in enumerate(rest)))


def array_text(values: Sequence[Any]) -> str:
    """
    The values of one parameter of such a statement, which takes an array as a text. Where all of them are NULL it is
    shorter than the others, to which PostgreSQL adds NULL.

    asyncpg looks at each value of an array twice before it writes it, which takes longer than all of this.
    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    first = next((value for value in values if value is not None), None)
    if first is None:
        return "{}"
    element = _quoted if isinstance(first, str) else str
    return "{" + ",".join(["NULL" if value is None else element(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


def _each_row(names: Sequence[str], types: Sequence[TypeEngine[Any]], prefix: str) -> TableValuedAlias:
    given = [bindparam(prefix + name, type_=String) for name in names]
    arrays = [cast(one, _array(type_)) for one, type_ in zip(given, types, strict=True)]
    columns = [column(name, type_) for name, type_ in zip(names, types, strict=True)]
    return func.unnest(*arrays).table_valued(*columns, name="each_row").render_derived()


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


def _json(value: object) -> str:
    # Six times as fast as the standard library's, which makes its writer anew for each value.
    return to_json(value).decode()


def parse_url(url: str) -> URL:
    """
    What `DATABASE_URL` says.

    Raises:
        BadSettings: it is no URL, or of a kind that can't be opened. The sentence does not quote it, since it may hold
            a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError):
        raise BadSettings(f"DATABASE_URL can't be read as the URL of a database: {HOW}.") from None
    if backend == "sqlite":
        return parsed
    if backend in {"postgresql", "postgres"}:
        return _postgresql_url(parsed)
    raise BadSettings(f"DATABASE_URL starts with {parsed.drivername!r}, which can't be opened: {HOW}.")


def _postgresql_url(url: URL) -> URL:
    if not url.database:
        raise BadSettings(f"DATABASE_URL names no database on its server: {HOW}.")
    query = dict(url.query)
    # As libpq calls it, and with it most providers; asyncpg has another name for it.
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    unknown = query.keys() - {"ssl", "host"}
    if unknown:
        raise BadSettings(f"DATABASE_URL has {sorted(unknown)} after the '?', which is not known: use sslmode or host.")
    return url.set(drivername="postgresql+asyncpg", query=query)


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


# ------ Looking at a database without changing it, and moving one from SQLite to PostgreSQL ------

# What the statements of the store need. https://www.postgresql.org/docs/13/release-13.html
OLDEST_SERVER = 13
# So long a copy waits for the database: one that was killed holds it until the server has noticed.
WAIT_FOR_COPY_SECONDS = 10


def engine_to_look(path: Path, *, stands_still: bool) -> Engine:
    """
    Reads an SQLite file and changes nothing, in it or beside it. (SQLite may set up anew the -shm file of a service
    that was killed; it holds no data.)

    Args:
        stands_still: nobody has it open.
    """
    # Opened in the ordinary way SQLite would make its -wal and -shm files, also to read only. What nobody has open and
    # has no -wal can be told to stand still. https://www.sqlite.org/uri.html#uriimmutable
    has_wal = path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if stands_still and not has_wal else "mode=ro"
    address = f"file:{quote(str(path.absolute()))}?{mode}"
    # One statement follows another, if not always in the same thread.
    connect = partial(sqlite3.connect, address, uri=True, timeout=WAIT_SECONDS, check_same_thread=False)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def engine_to_fill(url: URL, longest_seconds: float | None = None) -> AsyncEngine:
    """
    Connections to PostgreSQL that are not kept: each is one session from beginning to end.

    Args:
        longest_seconds: that a statement may take; None for as long as it needs.
    """
    return _postgresql_engine(url, longest_seconds, poolclass=NullPool)


def driver_errors() -> tuple[type[Exception], ...]:
    """
    All that is raised where PostgreSQL can't be reached, or is lost; SQLAlchemy passes some of it on as it is.
    """
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, DBAPIError)


def cause_of(error: BaseException) -> BaseException:
    """
    What the driver itself raised.
    """
    return error.driver_exception if isinstance(error, DBAPIError) else error


def why_unreachable(error: BaseException, url: URL, setting: str) -> tuple[str, str]:
    """
    What happened, and what to do about it, where no connection to PostgreSQL came about; without the password.

    Args:
        setting: what the URL was given in.
    """
    error = cause_of(error)
    host = url.host or "the local socket"
    words = {
        "where": f"{host}:{url.port or 5432}" if url.host else host,
        "host": host,
        "user": url.username or "of this process",
        "database": url.database,
        "setting": setting,
        "error": type(error).__name__,
        "detail": (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0],
    }
    happened, next_step = next(sentences for kind, *sentences in _unreachable() if isinstance(error, kind))
    return happened.format(**words), next_step.format(**words)


def _unreachable() -> Iterator[tuple[type[BaseException], str, str]]:
    """
    What each error of a connection means; the first that fits counts.
    """
    import asyncpg

    no_server = ("What answers at {where} speaks no PostgreSQL.", "Correct host and port in {setting}.")
    yield (
        asyncpg.InvalidPasswordError,
        "PostgreSQL at {where} does not take the password of the user {user}.",
        "Correct it in {setting}; signs such as @, : and / stand there as %40, %3A and %2F.",
    )
    yield (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL at {where} does not let the user {user} in from here.",
        "Correct the user in {setting}, or let it in (CREATE ROLE, pg_hba.conf).",
    )
    yield (
        asyncpg.InvalidCatalogNameError,
        "PostgreSQL at {where} has no database {database}.",
        "Make it (CREATE DATABASE), or correct its name in {setting}.",
    )
    yield (
        asyncpg.InsufficientPrivilegeError,
        "The user {user} may not connect to the database {database} at {where}.",
        "Give it the right to (GRANT CONNECT ON DATABASE), or correct {setting}.",
    )
    yield (
        asyncpg.TooManyConnectionsError,
        "PostgreSQL at {where} has no connection left.",
        "Raise its max_connections, or end what holds them.",
    )
    yield asyncpg.CannotConnectNowError, "PostgreSQL at {where} starts or stops just now.", "Try again in a minute."
    yield asyncpg.PostgresConnectionError, *no_server
    yield (
        asyncpg.PostgresError,
        "PostgreSQL at {where} refuses the connection ({error}).",
        "See its log, and check {setting}.",
    )
    # Of the driver: what the URL asks for can't be done.
    yield asyncpg.InterfaceError, "No connection to {where} can be made ({detail}).", "Correct {setting}."
    yield (
        socket.gaierror,
        "The name {host} can't be looked up.",
        "Correct the host in {setting}, or check this machine's name server.",
    )
    yield (
        ConnectionRefusedError,
        "Nothing takes connections at {where}.",
        "Start PostgreSQL, or correct host and port in {setting}.",
    )
    yield (
        TimeoutError,
        f"Nothing answers at {{where}} within {WAIT_SECONDS} seconds.",
        "Correct host and port in {setting}, or let this machine through the firewall.",
    )
    yield (
        ssl.SSLError,
        "No TLS that can be trusted is spoken at {where}.",
        "Check the host and sslmode in {setting}, and the server's certificate.",
    )
    # The server has no TLS where that is asked for, or there is no server of PostgreSQL at all.
    yield (
        ConnectionError,
        "What answers at {where} speaks no PostgreSQL, or not as it is asked to ({detail}).",
        "Correct host, port and sslmode in {setting}.",
    )
    yield OSError, "{where} can't be reached ({detail}).", "Correct host and port in {setting}."
    yield BaseException, *no_server


@dataclass(frozen=True, slots=True)
class Rights:
    """
    What a user may do in a database of PostgreSQL.

    Args:
        version: of the server, its first number.
        schema: where tables are made; None where there is no schema that the user may look into.
        can_make: tables in it.
        unusable: tables of ours that the user may not read and write, and sequences that number them.
        not_owned: tables of ours that another one owns, so that this one can't change their columns.
        is_read_only: no transaction can write.
    """

    user: str
    version: int
    schema: str | None
    can_make: bool
    unusable: tuple[str, ...]
    not_owned: tuple[str, ...]
    is_read_only: bool


def rights_in(connection: Connection, tables: Collection[str]) -> Rights:
    """
    Those of the user of a connection to PostgreSQL.

    Args:
        tables: names of ours.
    """
    about = connection.execute(_ABOUT_USER).one()
    of_tables = connection.execute(_RIGHTS, {"tables": list(tables)}).all()
    return Rights(
        about.user,
        about.version,
        about.schema,
        bool(about.can_make),
        tuple(each.name for each in of_tables if not each.is_usable),
        tuple(each.name for each in of_tables if not each.is_owned),
        about.is_read_only,
    )


_ABOUT_USER = text(
    "SELECT current_user AS user, current_schema() AS schema,"
    " current_setting('server_version_num')::int / 10000 AS version,"
    " has_schema_privilege(current_schema(), 'CREATE') AS can_make,"
    " current_setting('transaction_read_only') = 'on' AS is_read_only"
)
_RIGHTS = text(
    "SELECT one.relname AS name, pg_has_role(one.relowner, 'USAGE') AS is_owned,"
    " CASE one.relkind WHEN 'S' THEN has_sequence_privilege(one.oid, 'USAGE')"
    " ELSE has_table_privilege(one.oid, 'SELECT') AND has_table_privilege(one.oid, 'INSERT')"
    " AND has_table_privilege(one.oid, 'UPDATE') AND has_table_privilege(one.oid, 'DELETE') END AS is_usable"
    " FROM pg_class one"
    # A sequence belongs to the column that it numbers.
    " LEFT JOIN pg_depend ON one.relkind = 'S' AND classid = 'pg_class'::regclass AND objid = one.oid"
    " AND deptype IN ('a', 'i')"
    " LEFT JOIN pg_class numbered ON numbered.oid = refobjid"
    " WHERE one.relnamespace = current_schema()::regnamespace"
    " AND CASE one.relkind WHEN 'S' THEN numbered.relname WHEN 'r' THEN one.relname WHEN 'p' THEN one.relname END"
    " = ANY (:tables) ORDER BY one.relname"
)


def tables_in(connection: Connection) -> set[str]:
    """
    The tables where PostgreSQL would make ours, without those of its extensions.
    """
    return set(connection.scalars(_TABLES))


_TABLES = text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid"
    " AND deptype = 'e')"
)


def count_replicas(connection: Connection) -> int:
    """
    How many processes of the service run on the database of PostgreSQL.
    """
    return connection.scalar(_REPLICAS) or 0


_REPLICAS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
    " AND classid = :ours AND objid = :in_use AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(ours=_OURS, in_use=_IN_USE)
TRY_TO_SHARE = f"SELECT pg_try_advisory_lock_shared({_OURS}, {_IN_USE})"
"""
For a replica, on a connection that it keeps for as long as it runs: false while a copy goes into the database.
"""


async def take_alone(connection: AsyncConnection) -> bool:
    """
    Keep replicas and other copies away for as long as this session of PostgreSQL lives. False if one of them is there.
    """
    try:
        for statement in _SETTLE_IN:
            await connection.exec_driver_sql(statement)
        is_free = await connection.run_sync(count_replicas) == 0
        if is_free:
            await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_OURS}, {_IN_USE})")
        await connection.commit()
    except DBAPIError as error:
        await connection.rollback()
        if getattr(cause_of(error), "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return False
        raise
    return is_free


_LOCK_NOT_AVAILABLE = "55P03"
_SETTLE_IN = (
    f"SET lock_timeout = '{WAIT_FOR_COPY_SECONDS}s'",
    # Of a copy that was killed, or whose machine is gone, the server would keep the session, and what it holds, until
    # the end of a long statement, or for hours. PostgreSQL 13 does not know the first of these.
    "SELECT set_config(name, '1s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    # What is lost with the server's last moments is copied again, and the progress with it; what ends the copy syncs
    # all that went before it.
    "SET synchronous_commit = off",
)
SYNC_COMMIT = text("SET LOCAL synchronous_commit = on")


async def pour(connection: AsyncConnection, table: Table, rows: Iterable[Sequence[object]]) -> None:
    """
    Put rows as SQLite has them into a table of PostgreSQL, in the transaction that has begun.
    """
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_records_to_table(table.name, records=rows, columns=table.columns.keys())


def is_refusal(error: BaseException) -> bool:
    """
    Whether PostgreSQL refuses a row for what it holds: a value that does not fit, or a rule that it breaks.
    """
    return str(getattr(cause_of(error), "sqlstate", None) or "")[:2] in {"22", "23"}


def as_poured(table: Table) -> list[tuple[int, Callable[[Any], Any]]]:
    """
    What becomes of values as SQLite has them before they are poured, by their places; all others stay as they are.

    Raises:
        TypeError: nobody has said yet how columns of this type are brought over.
    """
    places: list[tuple[int, Callable[[Any], Any]]] = []
    for place, each in enumerate(table.columns):
        type_: TypeEngine[Any] = each.type.impl_instance if isinstance(each.type, TypeDecorator) else each.type
        if isinstance(type_, Boolean):
            places.append((place, bool))
        # JSON is a text on both sides, and a moment a whole number.
        elif not isinstance(type_, JSON | String | Integer | Float):
            raise TypeError(f"{table.name}.{each.name} is of type {each.type!r}, which can't be copied.")
    return places


def drop_references(connection: Connection, table: Table) -> None:
    """
    Let PostgreSQL not look for what each row of a table refers to, which costs more than the row; see `add_references`.
    """
    for each in table.foreign_key_constraints:
        connection.execute(DropConstraint(each, if_exists=True))


def add_references(connection: Connection, table: Table) -> None:
    """
    Let PostgreSQL look for what all rows of a table refer to, at once, and keep to what is checked from then on.
    """
    for each in table.foreign_key_constraints:
        # Also what is not checked later: nobody else looks at the rows that were brought over.
        connection.execute(AddConstraint(each))
        if not is_checked(connection, each):
            connection.execute(DropConstraint(each))


def number_on(connection: Connection, table: Table) -> None:
    """
    Let PostgreSQL number new rows of a table after those that were given numbers.
    """
    if table.autoincrement_column is None:
        return
    key = table.autoincrement_column
    quoted = connection.dialect.identifier_preparer.format_table(table)
    next_number = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
    sequence = func.pg_get_serial_sequence(quoted, key.name)
    connection.execute(select(func.setval(cast(sequence, postgresql.REGCLASS), next_number, False)))  # noqa: FBT003


def learn_sizes(connection: Connection, table: Table) -> None:
    """
    Let PostgreSQL look at what is in a table, so that it chooses good plans from the first statement on.
    """
    connection.exec_driver_sql(f"ANALYZE {connection.dialect.identifier_preparer.format_table(table)}")
