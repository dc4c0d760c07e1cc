"""
Fixtures for the promises.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.processes import Sandbox, Service, running


@pytest.fixture(autouse=True)
def on_each(everywhere: None) -> None:
    """
    Every promise is kept on each kind of database.
    """


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Service, Sandbox]]:
    """
    A service and a sandbox of their own.
    """
    with running(tmp_path) as pair:
        yield pair
