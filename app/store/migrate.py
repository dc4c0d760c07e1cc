"""Migrates a database to the schema of this version."""

import asyncio
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Column, Connection, ForeignKeyConstraint, create_engine, inspect, select
from sqlalchemy.schema import DefaultClause, SchemaItem

from app.domain.errors import BadSettings
from app.store.database.dialect import is_checked, lock_table
from app.store.database.engine import Database
from app.store.database.sqlite import copy_sqlite
from app.store.database.url import parse_url, sqlite_path
from app.store.moving.progress import require_no_copy
from app.store.schema import metadata, versions


async def migrate(database: Database, url: str) -> list[str]:
    """Apply the missing migrations; return their numbers.

    An SQLite file with data is first copied to FILE.before-STEP in the same folder.

    Raises:
        BadSettings: an incompatible newer version has used the database, or a copy into it is not finished.
    """
    await database.read(require_no_copy)
    return await apply_steps(database, url)


async def apply_steps(database: Database, url: str) -> list[str]:
    """Apply the missing migrations, even if a copy into the database is not finished."""
    parsed = parse_url(url)
    missing = await database.write(_missing)
    is_used = await database.write(_is_used)
    if missing and is_used and parsed.get_backend_name() == "sqlite":
        path = sqlite_path(parsed)
        await asyncio.to_thread(copy_sqlite, path, path.with_name(f"{path.name}.before-{missing[0]}"))
    if missing:
        return await database.change(_upgrade)
    return missing


def revision_of(connection: Connection) -> str | None:
    """Return the number of the last applied migration, or None."""
    return MigrationContext.configure(connection).get_current_revision()


def steps_after(revision: str | None, works_since: int | None = None) -> list[str]:
    """Return the migrations from a revision to the schema of this version, in order.

    A newer revision is accepted if this version is compatible with it, because old and new replicas run side by side
    during an upgrade.

    Args:
        works_since: the result of `works_since` for the database.

    Raises:
        BadSettings: a newer, incompatible version has migrated the database.
    """
    script = ScriptDirectory.from_config(_config())
    if revision is not None and revision not in {step.revision for step in script.walk_revisions()}:
        head = script.get_current_head()
        if works_since is not None and head is not None and works_since <= int(head):
            return []
        raise BadSettings(
            f"The database was used by a newer version of this program (its migration {revision} is unknown here): "
            "install that version, or name another database in DATABASE_URL."
        )
    return [step.revision for step in script.iterate_revisions("head", revision or "base")][::-1]


def works_since(connection: Connection) -> int | None:
    """Return the oldest migration whose program works with the database; None if it is not recorded."""
    if not inspect(connection).has_table(versions.name):
        return None
    found: int | None = connection.scalar(select(versions.c.version).where(versions.c.name == "schema"))
    return found


def differences(connection: Connection) -> list[object]:
    """Return the differences between the database and the schema of this version; none after `migrate`."""

    def is_expected(item: SchemaItem, *_: object) -> bool:
        return not isinstance(item, ForeignKeyConstraint) or is_checked(connection, item)

    opts = {"compare_type": True, "compare_server_default": _is_other_default, "include_object": is_expected}
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), metadata))


def _is_other_default(
    _context: MigrationContext,
    found: Column[Any],
    _expected: Column[Any],
    found_default: str | None,
    _expected_default: DefaultClause | None,
    rendered: str | None,
) -> bool | None:
    # None lets Alembic compare. It can't for JSON, since PostgreSQL has no equality of JSON.
    if not isinstance(found.type, JSON) or found_default is None or rendered is None:
        return None
    return found_default.removesuffix("::json").strip("'") != rendered.strip("'")


def filled_tables() -> frozenset[str]:
    """Return the tables into which migrations insert rows."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        _upgrade(connection)
        filled = frozenset(
            table.name for table in metadata.sorted_tables if connection.scalar(select(1).select_from(table).limit(1))
        )
    engine.dispose()
    return filled


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _missing(connection: Connection) -> list[str]:
    return steps_after(revision_of(connection), works_since(connection))


def _is_used(connection: Connection) -> bool:
    return revision_of(connection) is not None


def _upgrade(connection: Connection) -> list[str]:
    # When replicas start together, the first one migrates and the others find nothing missing.
    lock_table(connection, metadata.tables["exports"], is_exclusive=True)
    missing = _missing(connection)
    if missing:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return missing
