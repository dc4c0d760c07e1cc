"""Fills every table of an SQLite file with values that are hard to copy, by the types of the columns.

The last row of each table is NULL wherever the schema allows it.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Integer, String, Table

from app.store.schema import Moment, metadata

HARD = "é🙂\t\n\\N\\.\"'"
DEEP = json.dumps({"long": 12345678901234567890, "text": HARD, "list": [None, 1.5, True]}, ensure_ascii=False)

# Values that constraints require, in addition to the type.
FITTING: Mapping[str, Callable[[int], object]] = MappingProxyType(
    {
        "exports.state": lambda _: "paused",
        "exports.list_change": lambda _: "gone",
        "totals.accepted": lambda n: 6 * (n + 1),
        "memberships.told": lambda _: "in",
        "identities.is_enter": lambda _: 1,
        "accounts.pause": lambda _: "outage",
        "backfills.state": lambda _: "completed",
    }
)


def fill(path: Path, rows: int = 3) -> None:
    """Replace the rows of each table of a file with the schema of this version."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=ON")
        for table in metadata.sorted_tables:
            places = ", ".join("?" for _ in table.columns)
            connection.execute(f"DELETE FROM {table.name}")
            connection.executemany(
                f"INSERT INTO {table.name} ({', '.join(col.name for col in table.columns)}) VALUES ({places})",
                [[value(table, column, n, is_last=n == rows - 1) for column in table.columns] for n in range(rows)],
            )


def value(table: Table, column: Column[Any], n: int, *, is_last: bool) -> object:
    """Return the value of a column in row `n`, as SQLite stores it."""
    if is_last and column.nullable:
        return None
    fitting = FITTING.get(f"{table.name}.{column.name}")
    if fitting is not None:
        return fitting(n)
    for key in column.foreign_keys:
        return value(key.column.table, key.column, n, is_last=is_last)
    return of_type(column, n)


def of_type(column: Column[Any], n: int) -> object:
    match column.type:
        case Boolean():
            found: object = n % 2
        case Moment():
            found = 1_775_908_800_123_457 + n
        case Integer():
            # Keys with gaps.
            found = 7 + 10 * n if column.primary_key else n + 1
        case Float():
            found = n + 0.1
        case JSON():
            found = DEEP
        case String(length=length):
            found = f"{n}{HARD}"[:length]
        case other:
            raise AssertionError(f"{column} is of an unknown type: {other!r}")
    return found
