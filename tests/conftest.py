"""
What more than one folder needs: a fresh database for each test.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.store.engine import Database, sqlite_path
from app.store.migrate import migrate
from tests.factories import Clock


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """
    Without coverage, which makes every line cost twice; what runs in these long tests is covered by shorter ones.
    """
    measure = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(measure)


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """
    A database that is not there yet, one for each kind that the store can open.
    """
    urls = {"sqlite": f"sqlite:///{tmp_path}/store.db"}
    return urls[request.param]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    An SQLite file with the schema of this version, made once and copied for each test.
    """
    path = tmp_path_factory.mktemp("migrated") / "store.db"

    async def make() -> None:
        database = Database.open(f"sqlite:///{path}")
        try:
            await migrate(database, f"sqlite:///{path}")
        finally:
            await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(database_url: str, migrated_file: Path) -> AsyncIterator[Database]:
    """
    A fresh database with the schema of this version.
    """
    shutil.copyfile(migrated_file, sqlite_path(make_url(database_url)))
    database = Database.open(database_url)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def clock() -> Clock:
    """
    The time, moved by hand.
    """
    return Clock()
