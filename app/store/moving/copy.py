"""Moves an installation from an SQLite file to PostgreSQL: row by row as it is, and where it was killed it goes on.

The file is held for as long as that takes, and only read. The database is kept from replicas meanwhile, and each batch
of rows is committed together with how far the copy is: see `app.store.moving.progress`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Select, Table, bindparam, column, delete, func, select, tuple_
from sqlalchemy import inspect as tables_of
from sqlalchemy import table as bare_table
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.engine import Database
from app.store.database.unavailable import cause_of, driver_errors
from app.store.database.url import parse_url, sqlite_path
from app.store.migrate import apply_steps, filled_tables, revision_of, steps_after
from app.store.moving import progress as copy_progress
from app.store.moving.inspection import UnusableStore
from app.store.moving.progress import Key, Progress, Unfinished
from app.store.moving.server_inspection import inspect_server, name_of
from app.store.moving.target import (
    SYNC_COMMIT,
    add_references,
    as_poured,
    drop_references,
    engine_to_fill,
    engine_to_look,
    is_refusal,
    learn_sizes,
    number_on,
    pour,
    take_alone,
)
from app.store.schema import metadata

ROWS_PER_BATCH = 4000
FROM, TO = "--from", "--to"
ONLY = f"A copy goes from an SQLite file to PostgreSQL: {FROM} sqlite:///FILE {TO} postgresql://USER:PASSWORD@HOST/DATABASE."
AGAIN = "Run the same command again: it goes on where it stopped."
AFRESH = "make the database empty (DROP DATABASE, CREATE DATABASE), or name another one, and copy once more"

# What a row of the file holds, as SQLite has it.
Values = Sequence[Any]
Show = Callable[[int, int, str], None]
TABLES = metadata.sorted_tables


class CopyFailed(StoreUnavailable):
    """The copy can't be made, or not be finished."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made and verified.

    Args:
        tables: how many rows each holds, in the order they were copied.
        rows_before: those that an earlier run of the command had copied.
        seconds: that this one took.
        source: the file.
    """

    tables: Mapping[str, int]
    rows_before: int
    seconds: float
    source: Path

    @property
    def rows(self) -> int:
        """In all tables."""
        return sum(self.tables.values())


async def copy(source_url: str, target_url: str, show: Show = lambda _done, _total, _what: None) -> Copied:
    """Move all that an SQLite file holds to a database of PostgreSQL that holds nothing of its own.

    Args:
        show: told how many rows are copied, of how many, and what is done now.

    Raises:
        BadSettings: these two can't be copied from and to; nothing was changed.
        StoreUnavailable: one of them could not be used, or does not hold what it should.
    """
    began_at = time.monotonic()
    path = _source_path(source_url)
    _parse(target_url, "postgresql", TO)
    # Only for its lock, so that no service runs on it.
    held = Database.open(source_url)
    try:
        with Source(path) as source:
            show(0, 0, f"reading {path}")
            await asyncio.to_thread(source.take_stock)
            rows_before = await _Target(target_url, source, show).fill()
    finally:
        await held.close()
    return Copied(source.counts, rows_before, time.monotonic() - began_at, path)


def _source_path(url: str) -> Path:
    parsed = _parse(url, "sqlite", FROM)
    try:
        path = sqlite_path(parsed)
    except BadSettings as error:
        raise BadSettings(_of(FROM, error)) from None
    if not path.is_file():
        raise BadSettings(f"There is no file {path}: correct {FROM}.")
    return path


def _parse(url: str, kind: str, option: str) -> URL:
    try:
        parsed = parse_url(url)
    except BadSettings as error:
        raise BadSettings(_of(option, error)) from None
    if parsed.get_backend_name() != kind:
        raise BadSettings(ONLY)
    return parsed


def _of(option: str, error: BadSettings) -> str:
    # These sentences are made for the setting that an URL usually comes from.
    return str(error).replace("DATABASE_URL", option)


class Source:
    """An SQLite file that nobody else has open, to be read only.

    Attributes:
        fingerprint: of all that is in it.
        counts: rows of each table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fingerprint = ""
        self.counts: dict[str, int] = {}
        self._engine = engine_to_look(path, stands_still=True)
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        """The file, not read yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Gives it back."""
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def take_stock(self) -> None:
        """Look at what there is to copy.

        Raises:
            BadSettings: it is not of this version.
            UnusableStore: it is no database of ours.
        """
        self.fingerprint = _fingerprint(self.path)
        try:
            self._connection = self._engine.connect()
            revision = revision_of(self._connection)
            if revision is None:
                what = "the tables of another program" if tables_of(self._connection).get_table_names() else "nothing"
                raise UnusableStore(f"{self.path} holds {what}, so there is nothing to copy.", f"Correct {FROM}.")
            if _steps_after(revision, FROM):
                raise BadSettings(
                    f"{self.path} is of an older version: bring it up to date first, by a start of the service or "
                    f"`lytics-sailthru migrate` with DATABASE_URL=sqlite:///{self.path}."
                )
            self.counts = {each.name: count(self._connection, each) for each in TABLES}
        except DatabaseError as error:
            raise UnusableStore(
                f"{self.path} can't be read as a database ({error.orig}).",
                f"Put a backup in its place, or correct {FROM}.",
            ) from error

    def rows_after(self, table: Table, key: Key | None) -> list[Values]:
        """The next rows of a table in the order of their keys, ready to be poured; empty at its end."""
        if self._connection is None:
            raise ValueError("What there is was not looked at yet.")
        given = {} if key is None else dict(zip(_key_names(table), key, strict=True))
        rows: Sequence[Values] = self._connection.execute(_page(table, is_first=key is None), given).all()
        changes = as_poured(table)
        if not changes:
            return list(rows)
        poured: list[Values] = []
        for row in rows:
            values = list(row)
            for place, change in changes:
                if values[place] is not None:
                    values[place] = change(values[place])
            poured.append(values)
        return poured


def _steps_after(revision: str | None, option: str) -> list[str]:
    # Also a newer one that this version could work with is refused: it may hold what is not known here.
    try:
        return steps_after(revision)
    except BadSettings as error:
        raise BadSettings(_of(option, error)) from None


def _page(table: Table, *, is_first: bool) -> Select[Any]:
    # Columns without their types, so that values stay as they are in the file.
    bare = bare_table(table.name, *(column(each.name) for each in table.columns))
    keys = [bare.c[each.name] for each in table.primary_key]
    page = select(*bare.c).order_by(*keys).limit(ROWS_PER_BATCH)
    return page if is_first else page.where(tuple_(*keys) > tuple_(*map(bindparam, _key_names(table))))


def _key_names(table: Table) -> list[str]:
    return [f"after_{each.name}" for each in table.primary_key]


def key_of(table: Table, row: Values) -> Key:
    """The key of a row."""
    names = [each.name for each in table.columns]
    return [row[names.index(each.name)] for each in table.primary_key]


def _fingerprint(path: Path) -> str:
    """Of every byte: whoever writes to the file in between makes another one of it."""
    digest = hashlib.blake2b(digest_size=32)
    for each in (path, path.with_name(f"{path.name}-wal")):
        if each.exists():
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def count(connection: Connection, table: Table) -> int:
    """How many rows a table has."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


class _Target:
    """The database of PostgreSQL that is filled."""

    def __init__(self, url: str, source: Source, show: Show) -> None:
        self._url = url
        self._parsed = parse_url(url)
        self._name = name_of(self._parsed)
        self._source = source
        self._show = show
        self._done = 0
        self._total = sum(source.counts.values())

    async def fill(self) -> int:
        """Copy what is missing, and verify it; returns how many rows were there before."""
        self._tell("looking at the database")
        await inspect_server(self._url, None, setting=TO, is_changed=True)
        engine = engine_to_fill(self._parsed)
        try:
            async with engine.connect() as connection:
                if not await take_alone(connection):
                    raise BadSettings(
                        f"{self._name} is in use: a replica of the service runs on it, or another copy. Stop it, and "
                        "run the same command again."
                    )
                tables = await self._begin(connection)
                before = self._done = sum(each.rows for each in tables.values())
                for table in TABLES:
                    await self._copy(connection, table, tables[table.name])
                await connection.run_sync(self._finish)
                return before
        except driver_errors() as error:
            cause = type(cause_of(error)).__name__
            raise CopyFailed(f"{self._name} could not be used any more ({cause}). {AGAIN}") from error
        finally:
            await engine.dispose()

    def _tell(self, what: str) -> None:
        self._show(self._done, self._total, what)

    async def _begin(self, connection: AsyncConnection) -> dict[str, Progress]:
        """How far each table is."""
        unfinished = await connection.run_sync(copy_progress.unfinished)
        await connection.commit()
        if unfinished is not None:
            return await connection.run_sync(self._go_on, unfinished)
        self._tell("making the tables")
        database = Database.open(self._url)
        try:
            await apply_steps(database, self._url)
        finally:
            await database.close()
        return await connection.run_sync(self._begin_anew)

    def _begin_anew(self, connection: Connection) -> dict[str, Progress]:
        _steps_after(revision_of(connection), TO)
        filled = filled_tables()
        for table in TABLES:
            rows = 0 if table.name in filled else count(connection, table)
            if rows:
                raise BadSettings(
                    f"{self._name} is in use already: its table {table.name} has rows ({rows:,}). If a copy into it "
                    f"was finished before, nothing is left to do; if not, {AFRESH}."
                )
        for table in TABLES:
            drop_references(connection, table)
            if table.name in filled:
                connection.execute(delete(table))
        copy_progress.begin(
            connection, TABLES, fingerprint=self._source.fingerprint, source=str(self._source.path.absolute())
        )
        connection.commit()
        return {table.name: Progress() for table in TABLES}

    def _go_on(self, connection: Connection, unfinished: Unfinished) -> dict[str, Progress]:
        if unfinished.fingerprint != self._source.fingerprint:
            is_same_file = unfinished.source == str(self._source.path.absolute())
            what = "changed since then" if is_same_file else "is another one, or has changed since then"
            raise BadSettings(
                f"A copy of {unfinished.source} into {self._name} is not finished, and {self._source.path} {what}: "
                f"give the former one to go on, or {AFRESH}."
            )
        if _steps_after(revision_of(connection), TO) or unfinished.tables.keys() != {table.name for table in TABLES}:
            raise BadSettings(f"The copy into {self._name} was begun with another version of this program: {AFRESH}.")
        for table in TABLES:
            self._require_rows(connection, table, unfinished.tables[table.name].rows)
        connection.commit()
        return unfinished.tables

    async def _copy(self, connection: AsyncConnection, table: Table, progress: Progress) -> None:
        rows = await asyncio.to_thread(self._source.rows_after, table, progress.last_key)
        while rows:
            self._tell(table.name)
            last_key = key_of(table, rows[-1])
            # The next ones are read while these are written.
            reading = asyncio.create_task(asyncio.to_thread(self._source.rows_after, table, last_key))
            progress = Progress(progress.rows + len(rows), last_key)
            try:
                await self._pour(connection, table, rows, progress)
            finally:
                await asyncio.wait({reading})
            self._done += len(rows)
            rows = reading.result()

    async def _pour(self, connection: AsyncConnection, table: Table, rows: list[Values], progress: Progress) -> None:
        try:
            await connection.run_sync(copy_progress.advance, table, progress)
            await pour(connection, table, rows)
            await connection.commit()
        except driver_errors() as error:
            if not is_refusal(error):
                raise
            place = await self._first_refused(connection, table, rows)
            nth = progress.rows - len(rows) + place
            keys, cause = ", ".join(table.primary_key.columns.keys()), type(cause_of(error)).__name__
            raise CopyFailed(
                f"PostgreSQL refuses row {nth + 1:,} of the table {table.name} ({cause}), counted in the "
                f"order of {keys}. Correct it in {self._source.path}, then {AFRESH}."
            ) from error

    async def _first_refused(self, connection: AsyncConnection, table: Table, rows: list[Values]) -> int:
        """The place of the first row that can't be taken; what is tried is undone."""
        taken, refused = 0, len(rows)
        while refused - taken > 1:
            middle = (taken + refused) // 2
            if await self._would_take(connection, table, rows[:middle]):
                taken = middle
            else:
                refused = middle
        return taken

    async def _would_take(self, connection: AsyncConnection, table: Table, rows: list[Values]) -> bool:
        await connection.rollback()
        # Begins a transaction.
        await connection.run_sync(count, table)
        try:
            await pour(connection, table, rows)
        except driver_errors() as error:
            if not is_refusal(error):
                raise
            return False
        else:
            return True
        finally:
            await connection.rollback()

    def _finish(self, connection: Connection) -> None:
        self._tell("verifying")
        for table in TABLES:
            self._require_rows(connection, table, self._source.counts[table.name])
            self._add_references(connection, table)
            number_on(connection, table)
            learn_sizes(connection, table)
        connection.execute(SYNC_COMMIT)
        copy_progress.finish(connection)
        connection.commit()

    def _add_references(self, connection: Connection, table: Table) -> None:
        try:
            add_references(connection, table)
        except driver_errors() as error:
            if not is_refusal(error):
                raise
            raise CopyFailed(
                f"Rows of the table {table.name} refer to others that are not there. Correct that in "
                f"{self._source.path} (PRAGMA foreign_key_check), then {AFRESH}."
            ) from error

    def _require_rows(self, connection: Connection, table: Table, rows: int) -> None:
        found = count(connection, table)
        if found != rows:
            raise CopyFailed(
                f"The table {table.name} of {self._name} holds {found:,} rows, and {rows:,} were to be copied: "
                f"something else has written there. Keep it away, {AFRESH}."
            )
