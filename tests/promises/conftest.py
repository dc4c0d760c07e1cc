from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.processes import Sandbox, Service, running


@pytest.fixture(autouse=True)
def on_each_database(place_of_kind: None, kind: str, request: pytest.FixtureRequest) -> None:
    """Run every promise on each kind of database, and measure coverage on SQLite only."""
    if kind == "postgresql":
        request.getfixturevalue("unmeasured")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Service, Sandbox]]:
    """Run a service and a sandbox for one test."""
    with running(tmp_path) as pair:
        yield pair
