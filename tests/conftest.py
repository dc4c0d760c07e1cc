"""Fixtures of several folders: a fresh database for each test, on SQLite and on PostgreSQL."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from app.store.database.engine import Database
from tests import postgresql
from tests.factories import Clock
from tests.places import PLACE, make, opened
from tests.sizes import size

# Environment variable with the URL of the PostgreSQL server, set once for all workers.
SERVER = "TESTS_POSTGRESQL"
_servers: list[postgresql.Server] = []
_header: list[str] = []

hypothesis.settings.register_profile("of this size", max_examples=size(30, 100))
hypothesis.settings.load_profile("of this size")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for the whole run, in the process that starts all workers."""
    if hasattr(config, "workerinput") or SERVER in os.environ or config.option.collectonly:
        return
    given = os.environ.get(postgresql.GIVEN)
    if given:
        _header.append(f"PostgreSQL of {postgresql.GIVEN}")
        os.environ[SERVER] = given
        return
    server = postgresql.Server()
    _servers.append(server)
    server.start()
    _header.append(server.name)
    os.environ[SERVER] = server.url


def pytest_report_header() -> list[str]:
    """Return a line that names the server."""
    return _header


def pytest_unconfigure() -> None:
    while _servers:
        _servers.pop().remove()


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Run the test without coverage, which doubles its time. Shorter tests cover the same code."""
    measure = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(measure)


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """Return the URL of a running PostgreSQL server. Tests create their databases on it."""
    return os.environ[SERVER]


@pytest.fixture(scope="session")
def migrated_template(postgresql_url: str) -> Iterator[str]:
    """Return the name of a database with the current schema, created once and copied for each test."""
    with postgresql.database(postgresql_url) as url:
        asyncio.run(make(url))
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite file with the current schema, created once and copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    asyncio.run(make(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of database in turn. A test of one kind overrides this fixture."""
    found: str = request.param
    return found


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of an SQLite file that does not exist yet, or of an empty PostgreSQL database."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    with postgresql.database(request.getfixturevalue("postgresql_url")) as url:
        yield url


@pytest.fixture
def database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a fresh database with the current schema."""
    if kind == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        yield f"sqlite:///{tmp_path}/store.db"
        return
    template = request.getfixturevalue("migrated_template")
    with postgresql.database(request.getfixturevalue("postgresql_url"), template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Return `database_url`, opened."""
    async with opened(database_url) as database:
        yield database


@pytest.fixture
def place_of_kind(kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Let `tests.places.PLACE` create all databases of the test on this kind."""
    if kind == "sqlite":
        yield
        return
    server, template = request.getfixturevalue("postgresql_url"), request.getfixturevalue("migrated_template")
    with PLACE.on_postgresql(server, template):
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()
