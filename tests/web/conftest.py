"""Fixtures for the tests of the HTTP interface."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import Running, running


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as service:
        yield service
