"""Statements that run for every webhook and every call. They are built once and take many rows at a time.

On PostgreSQL all rows are sent in one statement, with one array for each parameter (see `in_bulk`). A statement for
each row would cost the server more than the work itself. On SQLite the driver gets all rows as tuples. SQLAlchemy would
make a dict of each row, which costs a fifth of the speed of the whole store.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult, Delete, Insert, Row, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

from app.store.database.statements import in_bulk

Statement = Select[Any] | Insert | Update | Delete
Values = Sequence[Any]


@dataclass(frozen=True, slots=True)
class _DriverStatement:
    """A statement in the form that the SQLite driver takes.

    Args:
        order: for each parameter in the SQL, the position of its value in a row.
        conversions: positions in a row, with the functions that convert their values for SQLite.
    """

    sql: str
    order: list[int]
    conversions: list[tuple[int, Callable[[Any], Any]]]

    def values(self, row: Values) -> tuple[Any, ...]:
        converted = list(row)
        for position, convert in self.conversions:
            if converted[position] is not None:
                converted[position] = convert(converted[position])
        return tuple([converted[position] for position in self.order])


class Prepared:
    """One statement whose values are given by position.

    Args:
        statement: the statement, or a function that builds it for the database of a connection.
        names: names of its parameters, in the order of the values; for an INSERT, names of columns.
        is_ordered: True if the rows must be processed in their order, because their locks must be taken in that order.
    """

    def __init__(
        self, statement: Statement | Callable[[Connection], Statement], *names: str, is_ordered: bool = False
    ) -> None:
        self._statement = statement
        self._names = names
        self._is_ordered = is_ordered
        # By dialect: the statement to execute, and whether it takes arrays.
        self._built: dict[str, tuple[Statement, bool]] = {}
        self._for_driver: _DriverStatement | None = None

    def run(self, connection: Connection, rows: Sequence[Values]) -> int:
        """Run the statement for each row of values. Return how many rows of the table it inserted or changed.

        The result is -1 if the driver does not report the number.
        """
        if not rows:
            return 0
        if connection.dialect.name != "sqlite":
            return self._execute(connection, rows).rowcount
        if self._for_driver is None:
            self._for_driver = self._build_for_driver(connection)
        values = [self._for_driver.values(row) for row in rows]
        return connection.exec_driver_sql(self._for_driver.sql, values).rowcount

    def fetch_each(self, connection: Connection, rows: Sequence[Values]) -> Sequence[Row[Any]]:
        """Run an INSERT for each row of values, and return the rows of its RETURNING clause."""
        return self._execute(connection, rows).all() if rows else []

    def fetch(self, connection: Connection, *values: object) -> Sequence[Row[Any]]:
        """Run the statement once, and return its rows."""
        statement, _ = self._build(connection)
        return connection.execute(statement, dict(zip(self._names, values, strict=True))).all()

    def _execute(self, connection: Connection, rows: Sequence[Values]) -> CursorResult[Any]:
        statement, takes_arrays = self._build(connection)
        if takes_arrays:
            columns = (list(column) for column in zip(*rows, strict=True))
            return connection.execute(statement, dict(zip(self._names, columns, strict=True)))
        return connection.execute(statement, [dict(zip(self._names, row, strict=True)) for row in rows])

    def _build(self, connection: Connection) -> tuple[Statement, bool]:
        built = self._built.get(connection.dialect.name)
        if built is None:
            built = self._built[connection.dialect.name] = self._build_for(connection)
        return built

    def _compile(self, connection: Connection) -> tuple[Statement, SQLCompiler]:
        statement = self._statement(connection) if callable(self._statement) else self._statement
        compiled = statement.compile(dialect=connection.dialect, column_keys=self._names)
        if not set(self._names) <= compiled.binds.keys():
            raise ValueError(f"Not all of {self._names} are parameters.")
        return statement, compiled

    def _build_for_driver(self, connection: Connection) -> _DriverStatement:
        _, compiled = self._compile(connection)
        dialect = connection.dialect
        converters = [compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self._names]
        return _DriverStatement(
            str(compiled),
            # Constants must be literals in the SQL: `literal_column`, not plain values.
            [self._names.index(name) for name in compiled.positiontup or ()],
            [(position, convert) for position, convert in enumerate(converters) if convert is not None],
        )

    def _build_for(self, connection: Connection) -> tuple[Statement, bool]:
        statement, compiled = self._compile(connection)
        statement = statement.execution_options(preserve_rowcount=True)
        is_query = not isinstance(statement, Insert) and len(statement.exported_columns) > 0
        if connection.dialect.name != "postgresql" or self._is_ordered or is_query or isinstance(statement, Select):
            return statement, False
        return in_bulk(statement, self._names, [compiled.binds[name].type for name in self._names]), True
