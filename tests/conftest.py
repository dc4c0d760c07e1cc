"""What more than one folder needs: a fresh database for each test, on SQLite and on PostgreSQL."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.store.database.engine import Database
from tests import postgresql
from tests.factories import Clock
from tests.places import PLACE, make, opened

# Where the server of this run answers: set once, for all workers.
SERVER = "TESTS_POSTGRESQL"
_own: list[postgresql.Server] = []
_said: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """One server for the whole run, started by the process that all workers come from."""
    if hasattr(config, "workerinput") or SERVER in os.environ or config.option.collectonly:
        return
    given = os.environ.get(postgresql.GIVEN)
    if given:
        _said.append(f"PostgreSQL of {postgresql.GIVEN}")
        os.environ[SERVER] = given
        return
    server = postgresql.Server()
    _own.append(server)
    server.start()
    _said.append(server.name)
    os.environ[SERVER] = server.url


def pytest_report_header() -> list[str]:
    """Says which server it is."""
    return _said


def pytest_unconfigure() -> None:
    """Ends it."""
    while _own:
        _own.pop().remove()


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Without coverage, which makes every line cost twice; what runs in these long tests is covered by shorter ones."""
    measure = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(measure)


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """A PostgreSQL that answers; databases of their own are made on its server."""
    return os.environ[SERVER]


@pytest.fixture(scope="session")
def migrated_template(postgresql_url: str) -> Iterator[str]:
    """The name of a database with the schema of this version, made once and copied for each test."""
    with postgresql.database(postgresql_url) as url:
        asyncio.run(make(url))
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema of this version, made once and copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    asyncio.run(make(f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database that the store can open; a test of one of them says which."""
    found: str = request.param
    return found


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database that is not there yet, or holds nothing."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    with postgresql.database(request.getfixturevalue("postgresql_url")) as url:
        yield url


@pytest.fixture
def database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database with the schema of this version."""
    if kind == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        yield f"sqlite:///{tmp_path}/store.db"
        return
    template = request.getfixturevalue("migrated_template")
    with postgresql.database(request.getfixturevalue("postgresql_url"), template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, open."""
    async with opened(database_url) as database:
        yield database


@pytest.fixture
def everywhere(kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is opened in the test is opened on each kind."""
    if kind == "sqlite":
        yield
        return
    server, template = request.getfixturevalue("postgresql_url"), request.getfixturevalue("migrated_template")
    with PLACE.on_postgresql(server, template):
        yield


@pytest.fixture
def clock() -> Clock:
    """The time, moved by hand."""
    return Clock()
