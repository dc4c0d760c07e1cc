"""Statements that differ between SQLite and PostgreSQL, or that take many values at once."""

import typing
from collections.abc import Sequence
from functools import cache
from typing import Any, Self, TypeVar

from sqlalchemy import (
    ARRAY,
    JSON,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Insert,
    String,
    Table,
    Update,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeDecorator, TypeEngine

Write = TypeVar("Write", bound=Insert | Update | Delete)


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that supports ON CONFLICT on the database of the connection."""
    return _insert(connection.dialect.name, table)


def insert_or_nothing(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that does not change an existing row."""
    return _insert_or_nothing(connection.dialect.name, table)


def upsert(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that overwrites every column but the key of an existing row."""
    return _upsert(connection.dialect.name, table)


def upsert_adding(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that adds the value of every column but the key to an existing row."""
    return _upsert_adding(connection.dialect.name, table)


def among(of: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that a column equals one of the values in the list parameter of this name.

    A list of any length is one parameter of one statement. `in_` makes a different statement for each length.
    """
    return _Among(of, bindparam(name, type_=_Values(of.type)))


class _Values(TypeDecorator[Any]):
    """A list of values as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = JSON
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind = _array(self.item) if dialect.name == "postgresql" else JSON()
        return dialect.type_descriptor(kind)


def _array(item: TypeEngine[Any]) -> ARRAY[Any]:
    # Without a length, since a cast to an array of limited strings would silently truncate longer ones.
    return ARRAY(String() if isinstance(item, String) else item)


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002 - SQLAlchemy's interface
        # This is a condition already. SQLAlchemy would append `= 1` on SQLite, which would then use no index.
        return self


@compiles(_Among)
def _among(element: _Among, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - SQLAlchemy's interface
    of, values = element.clauses
    value = compiler.process(cast(column("value"), of.type), **more)
    elements = f"json_each({compiler.process(values, **more)})"
    # SQLAlchemy rendered all three parts, with values as parameters.
    return f"{compiler.process(of, **more)} IN (SELECT {value} FROM {elements})"  # noqa: S608 - see above


@compiles(_Among, "postgresql")
def _among_on_postgresql(element: _Among, compiler: SQLCompiler, **more: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    of, values = element.clauses
    return f"{compiler.process(of, **more)} = ANY ({compiler.process(values, **more)})"


def in_bulk(statement: Write, names: Sequence[str], types: Sequence[TypeEngine[Any]]) -> Write:
    """Return a statement for PostgreSQL that takes arrays of values in place of one row of values.

    `UPDATE t SET a = :a WHERE id = :id` becomes `UPDATE t SET a = each_row.a FROM unnest(:a, :id) AS each_row (a, id)
    WHERE id = each_row.id`. https://www.postgresql.org/docs/current/functions-array.html
    """
    arrays = [bindparam(name, type_=_array(type_)) for name, type_ in zip(names, types, strict=True)]
    columns = [column(name, type_) for name, type_ in zip(names, types, strict=True)]
    each_row = func.unnest(*arrays).table_valued(*columns, name="each_row").render_derived()
    if isinstance(statement, Insert):
        return statement.from_select(list(names), select(*each_row.c))

    def replace(element: object, **_: object) -> object:
        return each_row.c[element.key] if isinstance(element, BindParameter) and element.key in names else None

    return typing.cast("Write", replacement_traverse(statement, {}, replace))


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


# Cached, because building such a statement costs more than running it.
@cache
def _insert_or_nothing(dialect: str, table: Table) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _upsert(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.key for column in table.primary_key]
    new = {column.key: statement.excluded[column.key] for column in table.columns if column.key not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


@cache
def _upsert_adding(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.key for column in table.primary_key]
    sums = {c.key: c + statement.excluded[c.key] for c in table.columns if c.key not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=sums)
