"""
Fixtures for the promises.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.processes import Sandbox, Service, running


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """
    Without coverage, which makes every line cost twice; what runs in these long tests is covered by shorter ones.
    """
    measure = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(measure)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Service, Sandbox]]:
    """
    A service and a sandbox of their own.
    """
    with running(tmp_path) as pair:
        yield pair
