"""The running service."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import Running, running


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    """A service as set up by default, on a fresh database."""
    async with running(tmp_path) as service:
        yield service
