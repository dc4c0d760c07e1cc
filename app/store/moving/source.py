"""Reads the SQLite file that a copy starts from."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Float,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    column,
    func,
    select,
    tuple_,
)
from sqlalchemy import inspect as inspect_database
from sqlalchemy import table as bare_table
from sqlalchemy.exc import DatabaseError
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.domain.errors import BadSettings
from app.store.database.sqlite import read_only_engine
from app.store.migrate import revision_of, steps_after
from app.store.moving.inspection import UnusableStore
from app.store.moving.progress import Key
from app.store.schema import metadata

ROWS_PER_BATCH = 4000
FROM = "--from"
TABLES = metadata.sorted_tables

# The values of a row, in the form that SQLite stores.
Values = Sequence[Any]


class Source:
    """An SQLite file that no other process has open. It is only read.

    Attributes:
        fingerprint: a digest of the whole file.
        counts: number of rows of each table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fingerprint = ""
        self.counts: dict[str, int] = {}
        self._engine = read_only_engine(path, is_unused=True)
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def inspect(self) -> None:
        """Read the fingerprint and the counts.

        Raises:
            BadSettings: the file is of another version.
            UnusableStore: it is not a database of this service.
        """
        self.fingerprint = _fingerprint(self.path)
        try:
            self._connection = self._engine.connect()
            revision = revision_of(self._connection)
            if revision is None:
                has_tables = bool(inspect_database(self._connection).get_table_names())
                content = "the tables of another program" if has_tables else "nothing"
                raise UnusableStore(f"{self.path} holds {content}, so there is nothing to copy.", f"Correct {FROM}.")
            if missing_steps(revision, FROM):
                raise BadSettings(
                    f"{self.path} is of an older version: upgrade it first, by starting the service or with "
                    f"`lytics-sailthru migrate`, with DATABASE_URL=sqlite:///{self.path}."
                )
            self.counts = {table.name: count_rows(self._connection, table) for table in TABLES}
        except DatabaseError as error:
            raise UnusableStore(
                f"{self.path} can't be read as a database ({error.orig}).",
                f"Put a backup in its place, or correct {FROM}.",
            ) from error

    def rows_after(self, table: Table, key: Key | None) -> list[Values]:
        """Return the next rows of a table in the order of their keys, in the form for PostgreSQL; empty at the end."""
        if self._connection is None:
            raise ValueError("The source was not inspected yet.")
        values = {} if key is None else dict(zip(_key_names(table), key, strict=True))
        rows = self._connection.execute(_page(table, is_first=key is None), values).all()
        conversions = conversions_of(table)
        return [_converted(row, conversions) for row in rows] if conversions else list(rows)


def conversions_of(table: Table) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return the column positions whose values must be converted for PostgreSQL, with their functions.

    Raises:
        TypeError: a column has a type that the copy does not know.
    """
    conversions: list[tuple[int, Callable[[Any], Any]]] = []
    for position, col in enumerate(table.columns):
        type_: TypeEngine[Any] = col.type.impl_instance if isinstance(col.type, TypeDecorator) else col.type
        if isinstance(type_, Boolean):
            conversions.append((position, bool))
        # JSON is text on both sides, and a time is an integer.
        elif not isinstance(type_, JSON | String | Integer | Float):
            raise TypeError(f"{table.name}.{col.name} is of type {col.type!r}, which can't be copied.")
    return conversions


def key_of(table: Table, row: Values) -> Key:
    """Return the primary key of a row."""
    names = [col.name for col in table.columns]
    return [row[names.index(col.name)] for col in table.primary_key]


def count_rows(connection: Connection, table: Table) -> int:
    """Return how many rows a table has."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


def missing_steps(revision: str | None, option: str) -> list[str]:
    """Return the steps that a database lacks.

    Raises:
        BadSettings: it is of a newer version. A compatible newer version is refused too, because it may hold data
            that this version does not copy.
    """
    try:
        return steps_after(revision)
    except BadSettings as error:
        raise named_by(option, error) from None


def named_by(option: str, error: BadSettings) -> BadSettings:
    """Return the error with the name of the command's option in place of the setting."""
    return BadSettings(str(error).replace("DATABASE_URL", option))


def _converted(row: Values, conversions: list[tuple[int, Callable[[Any], Any]]]) -> Values:
    values = list(row)
    for position, convert in conversions:
        if values[position] is not None:
            values[position] = convert(values[position])
    return values


def _page(table: Table, *, is_first: bool) -> Select[Any]:
    # Columns without types, so that values are not converted.
    bare = bare_table(table.name, *(column(col.name) for col in table.columns))
    keys = [bare.c[col.name] for col in table.primary_key]
    page = select(*bare.c).order_by(*keys).limit(ROWS_PER_BATCH)
    return page if is_first else page.where(tuple_(*keys) > tuple_(*map(bindparam, _key_names(table))))


def _key_names(table: Table) -> list[str]:
    return [f"after_{col.name}" for col in table.primary_key]


def _fingerprint(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for part in (path, path.with_name(f"{path.name}-wal")):
        if part.exists():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
