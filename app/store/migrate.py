"""
Brings a database to the schema of this version, before anything else uses it.
"""

import asyncio
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from app.store.engine import Database, copy_sqlite, sqlite_path
from app.store.schema import metadata


async def migrate(database: Database, url: str) -> list[str]:
    """
    Apply the steps that are missing; returns their numbers, empty if the database was up to date.

    An SQLite file that holds data is first copied beside itself, as FILE.before-STEP.
    """
    missing = await database.write(_missing)
    is_used = await database.write(_is_used)
    if missing and is_used:
        path = sqlite_path(make_url(url))
        await asyncio.to_thread(copy_sqlite, path, path.with_name(f"{path.name}.before-{missing[0]}"))
    if missing:
        await database.write(_upgrade)
    return missing


def differences(connection: Connection) -> list[object]:
    """
    What sets the database apart from the schema of this version; empty after `migrate`.
    """
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _missing(connection: Connection) -> list[str]:
    current = MigrationContext.configure(connection).get_current_revision()
    steps = ScriptDirectory.from_config(_config()).iterate_revisions("head", current or "base")
    return [step.revision for step in steps][::-1]


def _is_used(connection: Connection) -> bool:
    return MigrationContext.configure(connection).get_current_revision() is not None


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
