"""Records the statements of a database with their plans, and runs coroutines in the middle of a transaction.

The statements come from the database itself: from the trace callback of SQLite, and from the module auto_explain of
PostgreSQL, which needs a superuser.
"""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, event, insert, text
from sqlalchemy.util.concurrency import await_, in_greenlet

from app.store.database.engine import Database
from app.store.database.postgresql import PostgresqlTransactions
from app.store.database.sqlite import SqliteTransactions
from app.store.schema import identities, members, memberships
from tests.factories import ACCOUNT, NOON

T = TypeVar("T")
PATIENCE_SECONDS = 60


def meanwhile(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine while the work of a transaction waits for it.

    Args:
        loop: the loop of the test. On SQLite the work runs in another thread.
    """
    if in_greenlet():
        return await_(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE_SECONDS)


def engines(database: Database) -> list[Engine]:
    """Return the engines that run the statements of a database."""
    match database._transactions:
        case SqliteTransactions() as sqlite_transactions:
            return [sqlite_transactions._read, sqlite_transactions._write]
        case PostgresqlTransactions() as pool:
            return [pool._engine.sync_engine]
    raise TypeError(type(database._transactions))


def only_reads(connection: Connection) -> bool:
    """Return whether the transaction can't write."""
    if connection.dialect.name == "postgresql":
        return bool(connection.get_execution_options().get("postgresql_readonly"))
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA query_only")
    return bool(cursor.fetchall()[0][0])


@contextmanager
def intercepting(database: Database, handler: Callable[..., None]) -> Iterator[None]:
    """Call `handler` before each statement that SQLAlchemy executes, like its event `before_cursor_execute`."""
    with _subscribed(database, before_cursor_execute=handler):
        yield


@contextmanager
def _subscribed(database: Database, **handlers: Callable[..., None]) -> Iterator[None]:
    """Subscribe handlers to events of a database's engines, by the names of the events."""
    for engine in engines(database):
        for name, handler in handlers.items():
            event.listen(engine, name, handler)
    try:
        yield
    finally:
        for engine in engines(database):
            for name, handler in handlers.items():
                event.remove(engine, name, handler)


@dataclass(frozen=True, slots=True)
class Executed:
    """One executed statement.

    Args:
        plan: the steps of its plan as text, each for one table.
        scanned: tables that it read completely, even by an index.
        is_sorted: True if it sorted rows.
    """

    statement: str
    plan: tuple[str, ...]
    scanned: frozenset[str]
    is_sorted: bool


class Recording:
    """Executed statements, in the order of their start or, on PostgreSQL, of their end."""

    def __init__(self) -> None:
        self.all: list[Executed] = []

    @property
    def statements(self) -> list[str]:
        """All statements, except those that begin or end transactions or read the server's clock."""
        return [executed.statement for executed in self.all]

    @property
    def plans(self) -> str:
        """The steps of all plans."""
        return "\n".join(step for executed in self.all for step in executed.plan)

    def scanned(self, *tables: str) -> set[str]:
        """Return the given tables that any statement read completely."""
        return {table for executed in self.all for table in executed.scanned}.intersection(tables)

    @property
    def is_any_sorted(self) -> bool:
        """True if a statement sorted rows."""
        return any(executed.is_sorted for executed in self.all)


@contextmanager
def recording(database: Database) -> Iterator[Recording]:
    """Record the statements that run inside the block."""
    recorded = Recording()
    if isinstance(database._transactions, PostgresqlTransactions):
        with _explained(database._transactions, recorded):
            yield recorded
    else:
        traced: list[str] = []
        with _traced(database, traced):
            yield recorded
        assert isinstance(database._transactions, SqliteTransactions)
        with database._transactions._read.begin() as connection:
            # EXPLAIN alone does not notice that another connection changed the schema.
            connection.exec_driver_sql("select count(*) from sqlite_master").scalar()
            recorded.all += [
                _executed_by_sqlite(connection, statement) for statement in traced if _is_about_rows(statement)
            ]


def _is_about_rows(statement: str) -> bool:
    return statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")) and "clock_timestamp" not in statement


@contextmanager
def _traced(database: Database, traced: list[str]) -> Iterator[None]:
    def start(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.set_trace_callback(traced.append)

    def stop_tracing(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(None)

    with _subscribed(database, checkout=start, checkin=stop_tracing):
        yield


def _executed_by_sqlite(connection: Connection, statement: str) -> Executed:
    # The traced statement contains its values.
    plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
    scanned = {found[1] for step in plan if (found := re.match(r"SCAN (\w+)", step))}
    return Executed(statement, tuple(plan), frozenset(scanned), any("TEMP B-TREE" in step for step in plan))


@contextmanager
def _explained(pool: PostgresqlTransactions, recorded: Recording) -> Iterator[None]:
    listened: set[Any] = set()

    def handler(_: object, message: Any) -> None:
        _, is_plan, plan = str(message.message).partition("plan:\n")
        if is_plan:
            executed = _executed_by_postgresql(json.loads(plan))
            if _is_about_rows(executed.statement):
                recorded.all.append(executed)

    def start(connection: Connection) -> None:
        driver = cast("Any", connection.connection.driver_connection)
        driver.add_log_listener(handler)
        listened.add(driver)
        connection.exec_driver_sql("LOAD 'auto_explain'")
        for name, value in (
            ("log_min_duration", "0"),
            ("log_format", "json"),
            ("log_level", "notice"),
            ("log_analyze", "off"),
        ):
            connection.exec_driver_sql(f"SET LOCAL auto_explain.{name} = '{value}'")

    engine = pool._engine.sync_engine
    event.listen(engine, "begin", start)
    try:
        yield
    finally:
        event.remove(engine, "begin", start)
        for driver in listened:
            driver.remove_log_listener(handler)


def _executed_by_postgresql(found: dict[str, Any]) -> Executed:
    nodes = list(_nodes(found["Plan"]))
    return Executed(
        found["Query Text"],
        tuple(" ".join(str(node[key]) for key in _SHOWN if key in node) for node in nodes),
        frozenset(node["Relation Name"] for node in nodes if _is_scan(node)),
        any("Sort" in node["Node Type"] for node in nodes),
    )


_SHOWN = ("Node Type", "Relation Name", "Index Name", "Index Cond", "Filter")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _is_scan(node: dict[str, Any]) -> bool:
    # An index scan without a condition reads the whole index.
    is_some_of_it = any(name in node for name in ("Index Cond", "Recheck Cond", "TID Cond"))
    return "Relation Name" in node and node["Node Type"] != "ModifyTable" and not is_some_of_it


async def add_settled_members(database: Database, *, export_id: int = 1, count: int = 3000) -> None:
    """Add so many settled members that a plan shows whether all of them are read.

    PostgreSQL would always scan a small table, so statistics are collected too.
    """

    def fill(connection: Connection) -> None:
        first = 1_000_000
        connection.execute(
            insert(members),
            [{"id": first + n, "account": ACCOUNT, "address": f"settled{n}@example.com"} for n in range(count)],
        )
        confirmed = {
            "export_id": export_id,
            "desired": True,
            "confirmed": "in",
            "vars": {},
            "revision": 1,
            "confirmed_revision": 1,
        }
        connection.execute(
            insert(memberships),
            [
                {"member_id": first + n, "lytics_id": f"settled-{n}", "accepted_at": NOON, **confirmed}
                for n in range(count)
            ],
        )
        in_since = {"export_id": export_id, "moved_at_ns": 1, "moved_message_at_ns": 1, "is_enter": True}
        connection.execute(
            insert(identities),
            [{"lytics_id": f"settled-{n}", "member_id": first + n, **in_since} for n in range(count)],
        )
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))

    await database.write(fill)
