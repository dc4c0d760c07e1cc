"""Migrations: new, older and newer databases, simultaneous starts, failures and backups."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from app.domain.errors import BadSettings, StoreUnavailable
from app.store import migrate as module
from app.store.database.engine import Database
from app.store.migrate import differences, migrate, steps_after, works_since
from app.store.schema import metadata

NEWEST = steps_after(None)[-1]


def copies_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.before-*")]


async def test_new_database_is_migrated_once(empty_url: str, tmp_path: Path) -> None:
    """It is not backed up, and a second run does nothing."""
    database = Database.open(empty_url)
    first, second = await migrate(database, empty_url), await migrate(database, empty_url)
    found = await database.read(differences)
    await database.close()

    assert first
    assert second == []
    assert found == []
    assert copies_in(tmp_path) == []


async def test_incompatible_newer_database_is_refused_unchanged(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """The message says what to do, and nothing is backed up."""
    await migrated_to_9999(database, works_since=9999)
    with pytest.raises(BadSettings, match=r"newer version of this program .* install that version"):
        await migrate(database, database_url)
    revision = await database.read(lambda connection: connection.scalar(text("select * from alembic_version")))

    assert revision == "9999"
    assert copies_in(tmp_path) == []


@pytest.mark.parametrize("works_since", [6, int(NEWEST)])
async def test_compatible_newer_database_is_used(database: Database, database_url: str, works_since: int) -> None:
    """Old replicas run beside new ones and migrate nothing."""
    await migrated_to_9999(database, works_since=works_since)

    assert await migrate(database, database_url) == []


async def test_newer_database_without_recorded_compatibility_is_refused(database: Database, database_url: str) -> None:
    await migrated_to_9999(database, works_since=None)

    assert await database.read(works_since) is None
    with pytest.raises(BadSettings, match="newer version of this program"):
        await migrate(database, database_url)


async def migrated_to_9999(database: Database, *, works_since: int | None) -> None:
    """Change a database like a newer version that is compatible since a given migration."""

    def leave(connection: Connection) -> None:
        connection.execute(text("update alembic_version set version_num = '9999'"))
        if works_since is None:
            connection.execute(text("drop table versions"))
        else:
            connection.execute(text(f"update versions set version = {works_since} where name = 'schema'"))

    await database.write(leave)


async def test_missing_column_is_a_difference(database: Database) -> None:

    def drop(connection: Connection) -> list[object]:
        connection.execute(text("alter table totals drop column last_event_at"))
        return differences(connection)

    found = await database.write(drop)

    assert "last_event_at" in str(found)


@pytest.mark.parametrize(("column", "default"), [("field_types", "'[]'"), ("waking_from", "7")])
@pytest.mark.parametrize("kind", ["postgresql"])
async def test_other_default_is_a_difference(database: Database, column: str, default: str) -> None:
    """This includes JSON, which PostgreSQL can't compare."""

    def change(connection: Connection) -> list[object]:
        connection.execute(text(f"alter table exports alter column {column} set default {default}"))
        return differences(connection)

    found = await database.write(change)

    assert column in str(found)


async def test_one_of_simultaneous_starts_migrates(empty_url: str, kind: str) -> None:
    """The others wait for it. An SQLite file is used by one process only."""
    databases = [Database.open(empty_url, is_exclusive=False) for _ in range(1 if kind == "sqlite" else 4)]
    try:
        done = await asyncio.gather(*(migrate(database, empty_url) for database in databases))
        found = await databases[0].read(differences)
    finally:
        for database in databases:
            await database.close()

    assert found == []
    assert sum(map(bool, done)) == 1


async def test_failed_migration_changes_nothing(
    database: Database, database_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither tables nor data change. An SQLite file has a backup anyway."""
    add = text("insert into unexported values ('a', 'slug', 7, 0)")
    await database.write(lambda connection: connection.execute(add))

    def fail(connection: Connection) -> None:
        connection.execute(text("drop table unexported"))
        connection.execute(text("select * from nothing"))

    monkeypatch.setattr(module, "_missing", lambda _: ["9999"])
    monkeypatch.setattr(module, "_upgrade", fail)
    with pytest.raises((StoreUnavailable, ProgrammingError)):
        await migrate(database, database_url)
    events = await database.read(lambda connection: connection.scalar(text("select events from unexported")))

    assert events == 7
    assert copies_in(tmp_path) == (["store.db.before-9999"] if kind == "sqlite" else [])


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_backup_is_a_complete_database(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has every table and the last commit."""
    monkeypatch.setattr(module, "_missing", lambda _: ["9999"])
    monkeypatch.setattr(module, "_upgrade", lambda _: None)
    add = text("insert into unexported values ('last', 'slug', 1, 0)")
    await database.write(lambda connection: connection.execute(add))
    await migrate(database, database_url)
    copy = sqlite3.connect(tmp_path / "store.db.before-9999")
    sound = copy.execute("pragma integrity_check").fetchall()
    tables = {name for (name,) in copy.execute("select name from sqlite_master where type = 'table'")}
    last = copy.execute("select audience_id from unexported").fetchall()
    copy.close()

    assert sound == [("ok",)]
    assert tables >= set(metadata.tables)
    assert last == [("last",)]
