"""Copies an installation from an SQLite file to PostgreSQL.

The SQLite file is locked and only read. Replicas can't use the PostgreSQL database until the copy is finished. Each
batch of rows is committed together with the progress (`app.store.moving.progress`), so a killed copy can be resumed.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, delete
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.engine import Database
from app.store.database.postgresql import unpooled_engine
from app.store.database.unavailable import cause_of, driver_errors
from app.store.database.url import parse_url, sqlite_path
from app.store.migrate import apply_steps, filled_tables, revision_of
from app.store.moving import progress as copy_progress
from app.store.moving.progress import Progress, Unfinished
from app.store.moving.server_inspection import inspect_server, name_of
from app.store.moving.source import FROM, TABLES, Source, Values, count_rows, key_of, missing_steps, named_by
from app.store.moving.target import (
    SYNC_COMMIT,
    add_references,
    analyze,
    continue_numbering,
    drop_references,
    is_refused_row,
    load_rows,
    lock_out_replicas,
)

TO = "--to"
WRONG_DATABASES = (
    f"Copy from an SQLite file to PostgreSQL: {FROM} sqlite:///FILE {TO} postgresql://USER:PASSWORD@HOST/DATABASE."
)
RESUME_HINT = "Run the same command again: it resumes where it stopped."
RESTART_HINT = "empty the database (DROP DATABASE, CREATE DATABASE) or name another one, and start the copy again"

Show = Callable[[int, int, str], None]


class CopyFailed(StoreUnavailable):
    """The copy could not be finished."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A finished and verified copy.

    Args:
        tables: number of rows of each table, in the order of copying.
        rows_before: number of rows that earlier runs of the command had copied.
        seconds: duration of this run.
        source: the copied file.
    """

    tables: Mapping[str, int]
    rows_before: int
    seconds: float
    source: Path

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(self.tables.values())


async def copy(source_url: str, target_url: str, show: Show = lambda _done, _total, _action: None) -> Copied:
    """Copy everything from an SQLite file to an empty PostgreSQL database, or resume such a copy.

    Args:
        show: receives the copied rows, all rows, and the current action.

    Raises:
        BadSettings: the copy can't be made with these two databases; nothing was changed.
        StoreUnavailable: a database could not be used, or its content is wrong.
    """
    began_at = time.monotonic()
    path = _source_path(source_url)
    _parse(target_url, "postgresql", TO)
    # Locks the file, so that no service can use it.
    lock = Database.open(source_url)
    try:
        with Source(path) as source:
            show(0, 0, f"reading {path}")
            await asyncio.to_thread(source.inspect)
            rows_before = await _Copy(source, target_url, show).run()
    finally:
        await lock.close()
    return Copied(source.counts, rows_before, time.monotonic() - began_at, path)


def _source_path(url: str) -> Path:
    parsed = _parse(url, "sqlite", FROM)
    try:
        path = sqlite_path(parsed)
    except BadSettings as error:
        raise named_by(FROM, error) from None
    if not path.is_file():
        raise BadSettings(f"There is no file {path}: correct {FROM}.")
    return path


def _parse(url: str, kind: str, option: str) -> URL:
    try:
        parsed = parse_url(url)
    except BadSettings as error:
        raise named_by(option, error) from None
    if parsed.get_backend_name() != kind:
        raise BadSettings(WRONG_DATABASES)
    return parsed


class _Copy:
    """One run of the command."""

    def __init__(self, source: Source, url: str, show: Show) -> None:
        self._source = source
        self._url = url
        self._name = name_of(parse_url(url))
        self._show = show
        self._done = 0
        self._total = sum(source.counts.values())

    async def run(self) -> int:
        """Copy the missing rows and verify the result; return how many rows earlier runs had copied."""
        self._report("inspecting the database")
        await inspect_server(self._url, None, setting=TO, is_changed=True)
        engine = unpooled_engine(parse_url(self._url))
        try:
            async with engine.connect() as connection:
                if not await lock_out_replicas(connection):
                    raise BadSettings(
                        f"{self._name} is in use: a replica of the service runs on it, or another copy. Stop it, and "
                        "run the same command again."
                    )
                tables = await self._begin(connection)
                before = self._done = sum(progress.rows for progress in tables.values())
                for table in TABLES:
                    await self._copy_table(connection, table, tables[table.name])
                await connection.run_sync(self._finish)
                return before
        except driver_errors() as error:
            cause = type(cause_of(error)).__name__
            raise CopyFailed(f"The connection to {self._name} was lost ({cause}). {RESUME_HINT}") from error
        finally:
            await engine.dispose()

    def _report(self, action: str) -> None:
        self._show(self._done, self._total, action)

    async def _begin(self, connection: AsyncConnection) -> dict[str, Progress]:
        unfinished = await connection.run_sync(copy_progress.unfinished)
        await connection.commit()
        if unfinished is not None:
            return await connection.run_sync(self._resume, unfinished)
        self._report("creating the tables")
        database = Database.open(self._url)
        try:
            await apply_steps(database, self._url)
        finally:
            await database.close()
        return await connection.run_sync(self._start)

    def _start(self, connection: Connection) -> dict[str, Progress]:
        missing_steps(revision_of(connection), TO)
        filled = filled_tables()
        for table in TABLES:
            rows = 0 if table.name in filled else count_rows(connection, table)
            if rows:
                raise BadSettings(
                    f"{self._name} is in use already: its table {table.name} has rows ({rows:,}). If a copy into it "
                    f"was finished before, nothing is left to do. If not, {RESTART_HINT}."
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

    def _resume(self, connection: Connection, unfinished: Unfinished) -> dict[str, Progress]:
        if unfinished.fingerprint != self._source.fingerprint:
            is_same_file = unfinished.source == str(self._source.path.absolute())
            problem = "has changed since" if is_same_file else "is another file, or has changed since"
            raise BadSettings(
                f"A copy of {unfinished.source} into {self._name} is not finished, and {self._source.path} {problem}: "
                f"name the original file, or {RESTART_HINT}."
            )
        if missing_steps(revision_of(connection), TO) or unfinished.tables.keys() != {table.name for table in TABLES}:
            raise BadSettings(f"Another version of this program began the copy into {self._name}: {RESTART_HINT}.")
        for table in TABLES:
            self._require_rows(connection, table, unfinished.tables[table.name].rows)
        connection.commit()
        return unfinished.tables

    async def _copy_table(self, connection: AsyncConnection, table: Table, progress: Progress) -> None:
        rows = await asyncio.to_thread(self._source.rows_after, table, progress.last_key)
        while rows:
            self._report(table.name)
            last_key = key_of(table, rows[-1])
            # Read the next batch while this one is written.
            reading = asyncio.create_task(asyncio.to_thread(self._source.rows_after, table, last_key))
            progress = Progress(progress.rows + len(rows), last_key)
            try:
                await self._write(connection, table, rows, progress)
            finally:
                await asyncio.wait({reading})
            self._done += len(rows)
            rows = reading.result()

    async def _write(self, connection: AsyncConnection, table: Table, rows: list[Values], progress: Progress) -> None:
        try:
            await connection.run_sync(copy_progress.advance, table, progress)
            await load_rows(connection, table, rows)
            await connection.commit()
        except driver_errors() as error:
            if not is_refused_row(error):
                raise
            number = progress.rows - len(rows) + await self._first_refused(connection, table, rows) + 1
            keys, cause = ", ".join(table.primary_key.columns.keys()), type(cause_of(error)).__name__
            raise CopyFailed(
                f"PostgreSQL rejects row {number:,} of the table {table.name} ({cause}), counted in the order of "
                f"{keys}. Correct it in {self._source.path}, then {RESTART_HINT}."
            ) from error

    async def _first_refused(self, connection: AsyncConnection, table: Table, rows: list[Values]) -> int:
        """Return the position of the first row that PostgreSQL rejects. All trials are rolled back."""
        accepted, refused = 0, len(rows)
        while refused - accepted > 1:
            middle = (accepted + refused) // 2
            if await self._would_accept(connection, table, rows[:middle]):
                accepted = middle
            else:
                refused = middle
        return accepted

    async def _would_accept(self, connection: AsyncConnection, table: Table, rows: list[Values]) -> bool:
        await connection.rollback()
        # The query begins a transaction.
        await connection.run_sync(count_rows, table)
        try:
            await load_rows(connection, table, rows)
        except driver_errors() as error:
            if not is_refused_row(error):
                raise
            return False
        else:
            return True
        finally:
            await connection.rollback()

    def _finish(self, connection: Connection) -> None:
        self._report("verifying")
        for table in TABLES:
            self._require_rows(connection, table, self._source.counts[table.name])
            self._add_references(connection, table)
            continue_numbering(connection, table)
            analyze(connection, table)
        connection.execute(SYNC_COMMIT)
        copy_progress.finish(connection)
        connection.commit()

    def _add_references(self, connection: Connection, table: Table) -> None:
        try:
            add_references(connection, table)
        except driver_errors() as error:
            if not is_refused_row(error):
                raise
            raise CopyFailed(
                f"Rows of the table {table.name} refer to rows that do not exist. Correct them in "
                f"{self._source.path} (PRAGMA foreign_key_check), then {RESTART_HINT}."
            ) from error

    def _require_rows(self, connection: Connection, table: Table, rows: int) -> None:
        found = count_rows(connection, table)
        if found != rows:
            raise CopyFailed(
                f"The table {table.name} of {self._name} holds {found:,} rows, but the copy wrote {rows:,}: another "
                f"program has written there. Stop it, {RESTART_HINT}."
            )
