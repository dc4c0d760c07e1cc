"""
Statements that run for every webhook: compiled once, then given to the driver as they are.

SQLAlchemy's own way finds the compiled statement again each time and looks at each value of each row by its name, which
takes longer than all that SQLite does. The SQL and the conversions of values are the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine import Row, result_tuple
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

Statement = Select[Any] | Insert | Update | Delete
Values = Sequence[Any]
Convert = Callable[[Any], Any]


class Prepared:
    """
    One statement, whose values are given in the order of `names`.

    Args:
        statement: or what makes it, in the words of the database at hand.
        names: of its parameters, in the order in which they stand in the SQL; of an INSERT, names of columns.
    """

    def __init__(self, statement: Statement | Callable[[Connection], Statement], *names: str) -> None:
        self._statement = statement
        self._names = names
        self._ready: dict[str, _Ready] = {}

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """
        Run it once for each row of values; None is NULL in all columns.
        """
        if rows:
            ready = self._for(connection)
            converted = [_converted(row, ready.takes) for row in rows] if ready.takes else rows
            self._execute(connection, ready.sql, converted, is_many=True)

    def fetch(self, connection: Connection, *values: object) -> list[Row[Any]]:
        """
        The rows that a SELECT finds, with its columns as attributes.
        """
        ready = self._for(connection)
        found = self._execute(connection, ready.sql, _converted(values, ready.takes))
        return [ready.row(_converted(row, ready.gives)) for row in found]

    def _execute(
        self, connection: Connection, sql: str, values: Sequence[Any], *, is_many: bool = False
    ) -> Sequence[Values]:
        dbapi = connection.dialect.loaded_dbapi
        try:
            cursor = connection.connection.cursor()
            try:
                if not is_many:
                    cursor.execute(sql, values)
                    return cursor.fetchall()
                cursor.executemany(sql, values)
            finally:
                cursor.close()
        except dbapi.Error as error:
            raise DBAPIError.instance(sql, None, error, dbapi.Error, hide_parameters=True) from error
        return ()

    def _for(self, connection: Connection) -> "_Ready":
        name = connection.dialect.name
        ready = self._ready.get(name)
        if ready is None:
            statement = self._statement(connection) if callable(self._statement) else self._statement
            ready = self._ready[name] = _prepare(statement, list(self._names), connection.dialect)
        return ready


@dataclass(frozen=True, slots=True)
class _Ready:
    """
    The SQL, how values are converted on the way in and out, by their places, and what makes a row of those.
    """

    sql: str
    takes: list[tuple[int, Convert]]
    gives: list[tuple[int, Convert]]
    row: Callable[[Iterable[Any]], Row[Any]]


def _prepare(statement: Statement, names: list[str], dialect: Dialect) -> _Ready:
    compiled = statement.compile(dialect=dialect, column_keys=names)
    if compiled.positiontup != names:
        raise ValueError(f"The parameters stand in the order {compiled.positiontup}.")
    columns = list(statement.selected_columns) if isinstance(statement, Select) else []
    types: list[TypeEngine[Any]] = [compiled.binds[name].type.dialect_impl(dialect) for name in names]
    results: list[TypeEngine[Any]] = [column.type.dialect_impl(dialect) for column in columns]
    return _Ready(
        str(compiled),
        _places([type_.bind_processor(dialect) for type_ in types]),
        _places([type_.result_processor(dialect, None) for type_ in results]),
        result_tuple([str(column.key) for column in columns]),
    )


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
