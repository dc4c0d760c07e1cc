from collections.abc import AsyncIterator

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox

from .caller import KEY, SECRET, Clock, behind


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> SailthruSandbox:
    return SailthruSandbox({KEY: SECRET}, clock=clock)


@pytest.fixture
async def http(sandbox: SailthruSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with behind(sandbox) as client:
        yield client
