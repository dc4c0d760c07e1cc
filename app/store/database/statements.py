"""TODO."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Self

from sqlalchemy import (
    ARRAY,
    JSON,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    String,
    Table,
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
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeDecorator, TypeEngine


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the words of the database at hand."""
    return _insert(connection.dialect.name, table)


def insert_or_nothing(connection: Connection, table: Table) -> Insert:
    """An INSERT that leaves a row that is already there as it is."""
    return _insert_or_nothing(connection.dialect.name, table)


def upsert(connection: Connection, table: Table) -> Insert:
    """An INSERT that overwrites every column but the key of a row that is already there."""
    return _upsert(connection.dialect.name, table)


def upsert_adding(connection: Connection, table: Table) -> Insert:
    """An INSERT that, where a row is already there, adds every column but the key to it."""
    return _upsert_adding(connection.dialect.name, table)


def among(of: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """A condition: the column is one of the values of a list, given as the parameter of this name.

    However long the list, it is one parameter and the statement the same. `in_` makes another one for each length.
    """
    return _Among(of, bindparam(name, type_=_Several(of.type)))


class _Several(TypeDecorator[Any]):
    """A list of values as one parameter."""

    impl = JSON
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """An array where there are any."""
        kind = _array(self.item) if dialect.name == "postgresql" else JSON()
        return dialect.type_descriptor(kind)


def _array(item: TypeEngine[Any]) -> ARRAY[Any]:
    # A cast to an array of limited strings cuts them off without a word.
    return ARRAY(String() if isinstance(item, String) else item)


class _Among(FunctionElement[bool]):
    """A column and the list."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002 - its interface
        """As it is beside AND: it is a condition already. SQLite, which has no booleans, would be asked whether it
        equals 1, and use no index for it.
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
    """A statement that does for many rows of values, one array for each parameter, what the one given does for one row;
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


def array_text(values: Sequence[Any]) -> str:
    """The values of one parameter of such a statement, which takes an array as a text. Where all of them are NULL it is
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
    keys = [column.key for column in table.primary_key]
    new = {column.key: statement.excluded[column.key] for column in table.columns if column.key not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


@cache
def _upsert_adding(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.key for column in table.primary_key]
    sums = {c.key: c + statement.excluded[c.key] for c in table.columns if c.key not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=sums)
