"""Calls a sandbox like a client, with independently computed signatures."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from app.sandbox.sailthru import SailthruSandbox

KEY = "test_key"
SECRET = "test_secret"
NOON = datetime(2026, 4, 11, 12, 0, 0, tzinfo=UTC)
ADA = "ada@example.com"
GRACE = "grace@example.com"


class Clock:
    """A clock that tests advance."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def signed(payload: object, *, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """Return the four parameters of a call."""
    text = json.dumps(payload)
    joined = "".join(sorted([key, "json", text]))
    sig = hashlib.md5(f"{secret}{joined}".encode()).hexdigest()
    return {"api_key": key, "format": "json", "json": text, "sig": sig}


async def send(http: httpx.AsyncClient, method: str, endpoint: str, parameters: dict[str, str]) -> httpx.Response:
    """Send the parameters in the form of a POST, or in the query of any other method."""
    if method == "POST":
        return await http.post(endpoint, data=parameters)
    return await http.request(method, f"{endpoint}?{urlencode(parameters)}")


async def call(http: httpx.AsyncClient, method: str, endpoint: str, payload: object, **signing: str) -> httpx.Response:
    return await send(http, method, endpoint, signed(payload, **signing))


async def join(http: httpx.AsyncClient, email: str, *lists: str) -> httpx.Response:
    return await call(http, "POST", "/user", {"id": email, "lists": dict.fromkeys(lists, 1)})


async def leave(http: httpx.AsyncClient, email: str, *lists: str) -> httpx.Response:
    return await call(http, "POST", "/user", {"id": email, "lists": dict.fromkeys(lists, 0)})


def behind(app: Any) -> httpx.AsyncClient:
    """Return a client that sends its requests directly to the app."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition. The time limit of the test ends the wait."""
    while not holds():  # noqa: ASYNC110 - no event reports that a count changes
        await asyncio.sleep(0.001)


async def until_held(sandbox: SailthruSandbox, held: int, *, abandoned: int = 0) -> None:
    """Wait until this many calls are held, and this many of their clients have disconnected."""
    await until(lambda: (sandbox.executor.held, sandbox.executor.held_abandoned) == (held, abandoned))


def account_state(sandbox: SailthruSandbox, key: str = KEY) -> Any:
    """Return one account's part of the state."""
    accounts: Any = sandbox.state()["accounts"]
    return accounts[key]
