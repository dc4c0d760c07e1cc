"""Brings a database to the schema of this version, before anything else uses it."""

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
    """Apply the steps that are missing; returns their numbers, empty if the database was up to date.

    An SQLite file that holds data is first copied beside itself, as FILE.before-STEP.

    Raises:
        BadSettings: a newer version of this program has used the database, or a copy into it is not finished.
    """
    await database.read(require_no_copy)
    return await apply_steps(database, url)


async def apply_steps(database: Database, url: str) -> list[str]:
    """The same, also where a copy is about to begin."""
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
    """The number of the last step that was applied to a database; None if there was none."""
    return MigrationContext.configure(connection).get_current_revision()


def steps_after(revision: str | None, works_since: int | None = None) -> list[str]:
    """The numbers of the steps that lead from a revision to the schema of this version, in their order.

    A step of a newer version that only adds to the tables leaves this version able to work with them, so that old and
    new replicas run side by side while they are replaced; one that takes away says so, see `works_since`.

    Raises:
        BadSettings: a newer version made tables that this one can't work with.
    """
    script = ScriptDirectory.from_config(_config())
    if revision is not None and revision not in {step.revision for step in script.walk_revisions()}:
        head = script.get_current_head()
        if works_since is not None and head is not None and works_since <= int(head):
            return []
        raise BadSettings(
            f"The database was used by a newer version of this program (its step {revision} is not known here): "
            "install that version, or name another database in DATABASE_URL."
        )
    return [step.revision for step in script.iterate_revisions("head", revision or "base")][::-1]


def works_since(connection: Connection) -> int | None:
    """The oldest step whose program still works with a database; None before that was put down."""
    if not inspect(connection).has_table(versions.name):
        return None
    found: int | None = connection.scalar(select(versions.c.version).where(versions.c.name == "schema"))
    return found


def differences(connection: Connection) -> list[object]:
    """What sets the database apart from the schema of this version; empty after `migrate`."""

    def is_wanted(item: SchemaItem, *_: object) -> bool:
        return not isinstance(item, ForeignKeyConstraint) or is_checked(connection, item)

    opts = {"compare_type": True, "compare_server_default": _is_other_default, "include_object": is_wanted}
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), metadata))


def _is_other_default(
    _context: MigrationContext,
    found: Column[Any],
    _wanted: Column[Any],
    found_default: str | None,
    _wanted_default: DefaultClause | None,
    rendered: str | None,
) -> bool | None:
    """Whether two defaults differ; None where the ordinary way finds out. For JSON it can't: PostgreSQL compares
    none.
    """
    if not isinstance(found.type, JSON) or found_default is None or rendered is None:
        return None
    return found_default.removesuffix("::json").strip("'") != rendered.strip("'")


def filled_tables() -> frozenset[str]:
    """The names of the tables into which the steps themselves put rows, as they are on a new database."""
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
    # Replicas that start together: the first does it, and the others find it done.
    lock_table(connection, metadata.tables["exports"], is_exclusive=True)
    missing = _missing(connection)
    if missing:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return missing
