"""Statements that run for every webhook and every call: compiled once, then given to the driver as they are.

SQLAlchemy's own way finds the compiled statement again each time and looks at each value of each row by its name, which
takes longer than all that SQLite does. The SQL and the conversions of values are the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine import Row, result_tuple
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from app.store.database.statements import array_text, in_bulk

Statement = Select[Any] | Insert | Update | Delete
Values = Sequence[Any]
Convert = Callable[[Any], Any]


class Prepared:
    """One statement, whose values are given in the order of `names`.

    Args:
        statement: or what makes it, in the words of the database at hand.
        names: of its parameters; of an INSERT, names of columns. Where they stand in the SQL in the same order, on both
            databases, nothing has to be put in order.
        is_ordered: run for several rows it goes through them in their order, and so waits for locks in that order. Else
            the rows are ours already, or an INSERT, and the database may take them all at once.
    """

    def __init__(
        self, statement: Statement | Callable[[Connection], Statement], *names: str, is_ordered: bool = False
    ) -> None:
        self._statement = statement
        self._names = names
        self._is_ordered = is_ordered
        self._ready: dict[str, _Ready] = {}

    def run(self, connection: Connection, rows: Sequence[Values]) -> int:
        """Run it once for each row of values; None is NULL in all columns. Returns how many rows of the table it made
        or changed; -1 where it is ordered and the database does not tell.
        """
        if not rows:
            return 0
        ready = self.ready_for(connection)
        if ready.takes_at_once(rows):
            return _execute(connection, *ready.at_once(rows)).changed
        return _execute(connection, ready.one.sql, ready.each(rows), is_many=True).changed

    def fetch_each(self, connection: Connection, rows: Sequence[Values]) -> list[Row[Any]]:
        """Run an INSERT once for each row of values; the rows that it returns, with their columns as attributes."""
        if not rows:
            return []
        ready = self.ready_for(connection)
        if not ready.takes_at_once(rows):
            return ready.rows(_execute(connection, ready.one.sql, ready.each(rows), is_many=True, is_fetch=True))
        return ready.rows(_execute(connection, *ready.at_once(rows), is_fetch=True))

    def fetch(self, connection: Connection, *values: object) -> list[Row[Any]]:
        """The rows that a SELECT finds, or that another statement returns, with their columns as attributes."""
        ready = self.ready_for(connection)
        given = ready.one.arranged(_converted(values, ready.takes))
        return ready.rows(_execute(connection, ready.one.sql, given, is_fetch=True))

    def ready_for(self, connection: Connection) -> "_Ready":
        """It as the database at hand is given it."""
        name = connection.dialect.name
        ready = self._ready.get(name)
        if ready is None:
            statement = self._statement(connection) if callable(self._statement) else self._statement
            ready = _prepare(statement, list(self._names), connection.dialect, is_ordered=self._is_ordered)
            self._ready[name] = ready
        return ready


@dataclass(frozen=True, slots=True)
class _Ready:
    """The SQL, for one row and for many at once, how values are converted on the way in and out, by their places, and
    what makes a row of those.
    """

    statement: Statement
    names: list[str]
    types: list[TypeEngine[Any]]
    is_ordered: bool
    one: "_Text"
    bulk: "_Text | None"
    takes: list[tuple[int, Convert]]
    gives: list[tuple[int, Convert]]
    row: Callable[[Iterable[Any]], Row[Any]]

    def takes_at_once(self, rows: Sequence[Values]) -> bool:
        """Whether the database may go through these rows as it likes, and can take them all at once."""
        return self.bulk is not None and (not self.is_ordered or len(rows) <= 1)

    def each(self, rows: Sequence[Values]) -> Sequence[Values]:
        """All values for the statement that takes one row at a time."""
        if self.takes or self.one.is_turned:
            return [self.one.arranged(_converted(row, self.takes)) for row in rows]
        return rows

    def at_once(self, rows: Sequence[Values]) -> tuple[str, Values]:
        """The statement that takes all rows at once, and what it is given."""
        if self.bulk is None:
            raise ValueError("There is no such statement.")
        return self.bulk.sql, self.bulk.arranged(self.arrays(rows))

    def arrays(self, rows: Sequence[Values]) -> list[str]:
        """An array of values for each name."""
        columns: list[Values] = list(zip(*rows, strict=True))
        for place, convert in self.takes:
            columns[place] = _converted_column(columns[place], convert)
        return [array_text(column) for column in columns]

    def rows(self, result: "_Result") -> list[Row[Any]]:
        """What was found, as it is used."""
        return [self.row(_converted(row, self.gives)) for row in result.rows]


@dataclass(frozen=True, slots=True)
class _Text:
    """Some SQL.

    Args:
        order: for each of its parameters which of the values it takes, and where none, what else stands there.
    """

    sql: str
    order: tuple[tuple[int | None, object], ...]
    is_turned: bool

    def arranged(self, values: Values) -> Values:
        """The values as the SQL takes them."""
        if not self.is_turned:
            return values
        return [constant if place is None else values[place] for place, constant in self.order]


class _Result(NamedTuple):
    """The rows that were found, and how many of the table were made or changed."""

    rows: Sequence[Values]
    changed: int


def _execute(
    connection: Connection, sql: str, values: Sequence[Any], *, is_many: bool = False, is_fetch: bool = False
) -> _Result:
    dbapi = connection.dialect.loaded_dbapi
    try:
        cursor = connection.connection.cursor()
        try:
            if is_many and is_fetch:
                found: list[Values] = []
                for row in values:
                    cursor.execute(sql, row)
                    found += cursor.fetchall()
                return _Result(found, len(found))
            if is_many:
                cursor.executemany(sql, values)
            else:
                cursor.execute(sql, values)
            return _Result(cursor.fetchall() if is_fetch else (), cursor.rowcount)
        finally:
            cursor.close()
    except dbapi.Error as error:
        raise DBAPIError.instance(sql, None, error, dbapi.Error, hide_parameters=True) from error


def _prepare(statement: Statement, names: list[str], dialect: Dialect, *, is_ordered: bool) -> _Ready:
    compiled = _compiled(statement, names, dialect)
    columns = list(statement.exported_columns)
    types = [compiled.binds[name].type for name in names]
    results: list[TypeEngine[Any]] = [column.type.dialect_impl(dialect) for column in columns]
    is_fetched = columns and not isinstance(statement, Insert)
    bulk = None if is_fetched else in_bulk(statement, names, types, dialect)
    return _Ready(
        statement,
        names,
        types,
        is_ordered,
        _text(compiled, names),
        None if bulk is None else _text(_compiled(bulk, names, dialect), names),
        _places([type_.dialect_impl(dialect).bind_processor(dialect) for type_ in types]),
        _places([type_.result_processor(dialect, None) for type_ in results]),
        result_tuple([str(column.key) for column in columns]),
    )


def _compiled(statement: Statement, names: list[str], dialect: Dialect) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect, column_keys=names)
    if not set(names) <= compiled.binds.keys():
        raise ValueError(f"Not all of {names} are parameters.")
    return compiled


def _text(compiled: SQLCompiler, names: list[str]) -> _Text:
    params = compiled.params
    stands = compiled.positiontup or []
    order = tuple((names.index(name), None) if name in names else (None, params[name]) for name in stands)
    return _Text(str(compiled), order, is_turned=stands != names)


def _converted_column(values: Values, convert: Convert) -> Values:
    first = values[0]
    if all(value is first for value in values):
        # Often so: the moment of the transaction.
        return [None if first is None else convert(first)] * len(values)
    return [None if value is None else convert(value) for value in values]


def _places(conversions: Sequence[Convert | None]) -> list[tuple[int, Convert]]:
    return [(place, convert) for place, convert in enumerate(conversions) if convert is not None]


def _converted(row: Values, conversions: Sequence[tuple[int, Convert]]) -> Values:
    if not conversions:
        return row
    values = list(row)
    for place, convert in conversions:
        if values[place] is not None:
            values[place] = convert(values[place])
    return values
