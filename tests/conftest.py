"""
What more than one folder needs: a fresh database for each test.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.store.engine import Database
from app.store.migrate import migrate
from tests.factories import Clock


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """
    A database that is not there yet, one for each kind that the store can open.
    """
    urls = {"sqlite": f"sqlite:///{tmp_path}/store.db"}
    return urls[request.param]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """
    A fresh database with the schema of this version.
    """
    database = Database.open(database_url)
    try:
        await migrate(database, database_url)
        yield database
    finally:
        await database.close()


@pytest.fixture
def clock() -> Clock:
    """
    The time, moved by hand.
    """
    return Clock()
