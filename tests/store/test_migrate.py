"""From one version to the next without losing anything."""

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


async def test_a_fresh_database_is_brought_to_the_newest_schema_once(empty_url: str, tmp_path: Path) -> None:
    """Nothing was there, so nothing is copied; a second run finds nothing to do."""
    database = Database.open(empty_url)
    first, second = await migrate(database, empty_url), await migrate(database, empty_url)
    found = await database.read(differences)
    await database.close()

    assert first
    assert second == []
    assert found == []
    assert copies_in(tmp_path) == []


async def test_a_database_of_a_newer_version_is_left_alone(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """If that takes away what this version needs, in one sentence that says what to do; nothing is copied."""
    await as_of_step_9999(database, works_since=9999)
    with pytest.raises(BadSettings, match=r"newer version of this program .* install that version"):
        await migrate(database, database_url)
    revision = await database.read(lambda connection: connection.scalar(text("select * from alembic_version")))

    assert revision == "9999"
    assert copies_in(tmp_path) == []


@pytest.mark.parametrize("works_since", [6, int(NEWEST)])
async def test_a_database_that_a_newer_version_only_added_to_is_used(
    database: Database, database_url: str, works_since: int
) -> None:
    """Replicas of the old version go on while new ones come; they apply nothing."""
    await as_of_step_9999(database, works_since=works_since)

    assert await migrate(database, database_url) == []


async def test_a_database_of_before_that_was_put_down_needs_the_newer_version(
    database: Database, database_url: str
) -> None:
    """As an empty one, it does not say with which step it works."""
    await as_of_step_9999(database, works_since=None)

    assert await database.read(works_since) is None
    with pytest.raises(BadSettings, match="newer version of this program"):
        await migrate(database, database_url)


async def as_of_step_9999(database: Database, *, works_since: int | None) -> None:
    """As a newer version left it, with which programs work that know this step."""

    def leave(connection: Connection) -> None:
        connection.execute(text("update alembic_version set version_num = '9999'"))
        if works_since is None:
            connection.execute(text("drop table versions"))
        else:
            connection.execute(text(f"update versions set version = {works_since} where name = 'schema'"))

    await database.write(leave)


async def test_a_missing_column_is_seen(database: Database) -> None:
    """What compares the two would notice."""

    def drop(connection: Connection) -> list[object]:
        connection.execute(text("alter table totals drop column last_event_at"))
        return differences(connection)

    found = await database.write(drop)

    assert "last_event_at" in str(found)


@pytest.mark.parametrize(("column", "default"), [("field_types", "'[]'"), ("waking_from", "7")])
@pytest.mark.parametrize("kind", ["postgresql"])
async def test_another_default_is_seen(database: Database, column: str, default: str) -> None:
    """Also one of JSON, which PostgreSQL does not compare."""

    def change(connection: Connection) -> list[object]:
        connection.execute(text(f"alter table exports alter column {column} set default {default}"))
        return differences(connection)

    found = await database.write(change)

    assert column in str(found)


async def test_who_starts_at_the_same_time_finds_it_done(empty_url: str, kind: str) -> None:
    """Replicas that start together: one takes the steps, the others wait for it. An SQLite file has one process."""
    databases = [Database.open(empty_url, is_exclusive=False) for _ in range(1 if kind == "sqlite" else 4)]
    try:
        done = await asyncio.gather(*(migrate(one, empty_url) for one in databases))
        found = await databases[0].read(differences)
    finally:
        for one in databases:
            await one.close()

    assert found == []
    assert sum(map(bool, done)) == 1


async def test_a_step_that_fails_leaves_the_database_as_it_was(
    database: Database, database_url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and data, and a copy of an SQLite file beside it all the same."""
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
async def test_the_copy_is_a_whole_database_of_its_own(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table, sound, and also what has been written last."""
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
