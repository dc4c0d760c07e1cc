"""Upgrades from every earlier migration, with data in all tables."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest
from alembic import command
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Table,
    TableClause,
    column,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

from app.domain.errors import StoreUnavailable
from app.store.database.unavailable import cause_of
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.migrate import _config, differences, migrate, revision_of, steps_after
from app.store.moving.target import continue_numbering
from app.store.schema import Moment, metadata
from tests.factories import ACCOUNT, MINUTE, Clock, enter, room
from tests.places import opened
from tests.store.filling import value

STEPS = steps_after(None)
ROWS = 3
# Tables into which migrations insert rows.
FILLED = {"versions"}


def to_step(connection: Connection, step: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, step)


def bare(connection: Connection) -> dict[str, TableClause]:
    """Return the existing tables and columns of this version, in the order of their references."""
    found = inspect(connection)
    there = set(found.get_table_names()) - FILLED
    return {
        known_table.name: table(
            known_table.name,
            *(column(c["name"], _type(_named(known_table)[c["name"]])) for c in found.get_columns(known_table.name)),
        )
        for known_table in metadata.sorted_tables
        if known_table.name in there
    }


def _named(of: Table) -> dict[str, Column[Any]]:
    """Return the columns by their names in the database."""
    return {col.name: col for col in of.columns}


def _type(of: Column[Any]) -> TypeEngine[Any]:
    return BigInteger() if isinstance(of.type, Moment) else of.type


def fill(connection: Connection, tables: Mapping[str, TableClause]) -> None:
    for name, existing in tables.items():
        known = metadata.tables[name]
        columns = _named(known)
        rows = [{c.name: _value(columns[c.name], n) for c in existing.columns} for n in range(ROWS)]
        connection.execute(existing.insert(), rows)
        if connection.dialect.name == "postgresql":
            continue_numbering(connection, known)


def _value(of: Column[Any], n: int) -> object:
    found = value(of.table, of, n, is_last=n == ROWS - 1)
    if isinstance(of.type, JSON) and isinstance(found, str):
        return json.loads(found)
    return bool(found) if isinstance(of.type, Boolean) and found is not None else found


def rows(connection: Connection, tables: Mapping[str, TableClause]) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: sorted((tuple(row) for row in connection.execute(select(existing))), key=repr)
        for name, existing in tables.items()
    }


@pytest.mark.parametrize("step", STEPS)
async def test_upgrade_keeps_all_rows(step: str, empty_url: str, clock: Clock) -> None:
    """The upgraded schema is that of this version, and a new member is stored and claimed."""
    async with opened(empty_url) as database:

        def make(connection: Connection) -> tuple[dict[str, TableClause], dict[str, list[tuple[object, ...]]]]:
            to_step(connection, step)
            tables = bare(connection)
            fill(connection, tables)
            return tables, rows(connection, tables)

        tables, before = await database.change(make)
        done = await migrate(database, empty_url)
        after = await database.read(lambda connection: rows(connection, tables))
        found = await database.read(differences)
        exports, members = Exports(database, clock), Members(database, clock)
        export = await exports.start("new", audience_slug="new", account=ACCOUNT)
        await exports.name(export.id, "New", "Lytics New")
        await members.apply([enter(export_id=export.id)])
        (claim,) = await members.claim(ACCOUNT, capacity=room(5), lease_for=MINUTE)

        assert done == STEPS[STEPS.index(step) + 1 :]
        assert all(len(rows_of_table) == ROWS for rows_of_table in before.values())
        assert after == before
        assert found == []
        assert await database.read(revision_of) == STEPS[-1]
        assert [pending.export_id for pending in claim.pending] == [export.id]


@pytest.mark.parametrize("kind", ["postgresql"])
async def test_blocked_migration_gives_up_quickly(empty_url: str) -> None:
    """A dump reads all tables for a long time. The migration works once the dump has ended."""
    async with opened(empty_url) as database, opened(empty_url) as other:
        await database.change(lambda connection: to_step(connection, "0007"))

        uses, ends = asyncio.Event(), asyncio.Event()

        def dump(connection: Connection) -> None:
            connection.execute(text("select count(*) from memberships"))
            uses.set()
            await_only(ends.wait())

        dumping = asyncio.create_task(other.read(dump))
        await uses.wait()
        try:
            with pytest.raises(StoreUnavailable) as refused:
                await migrate(database, empty_url)
            assert isinstance(refused.value.__cause__, DBAPIError)
            assert isinstance(cause_of(refused.value.__cause__), asyncpg.LockNotAvailableError)
            assert await database.read(revision_of) == "0007"
        finally:
            ends.set()
            await dumping
        assert await migrate(database, empty_url) == ["0008"]
