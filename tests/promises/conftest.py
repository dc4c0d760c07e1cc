"""Fixtures for the promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.processes import Sandbox, Service, running


@pytest.fixture(autouse=True)
def on_each(everywhere: None, kind: str, request: pytest.FixtureRequest) -> None:
    """Every promise is kept on each kind of database. What runs is measured on one of them: it is the same."""
    if kind == "postgresql":
        request.getfixturevalue("unmeasured")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Service, Sandbox]]:
    """A service and a sandbox of their own."""
    with running(tmp_path) as pair:
        yield pair
