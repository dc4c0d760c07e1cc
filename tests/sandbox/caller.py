"""Calls a sandbox as a client would, with a signature made here and not by what is under test."""

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
    """Stands still until told otherwise."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def signed(payload: object, *, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """The four parameters of a call."""
    text = json.dumps(payload)
    joined = "".join(sorted([key, "json", text]))
    sig = hashlib.md5(f"{secret}{joined}".encode()).hexdigest()
    return {"api_key": key, "format": "json", "json": text, "sig": sig}


async def send(http: httpx.AsyncClient, method: str, endpoint: str, parameters: dict[str, str]) -> httpx.Response:
    """Puts parameters where the method wants them."""
    if method == "POST":
        return await http.post(endpoint, data=parameters)
    return await http.request(method, f"{endpoint}?{urlencode(parameters)}")


async def call(http: httpx.AsyncClient, method: str, endpoint: str, payload: object, **signing: str) -> httpx.Response:
    """One signed call."""
    return await send(http, method, endpoint, signed(payload, **signing))


async def join(http: httpx.AsyncClient, email: str, *lists: str) -> httpx.Response:
    return await call(http, "POST", "/user", {"id": email, "lists": dict.fromkeys(lists, 1)})


async def leave(http: httpx.AsyncClient, email: str, *lists: str) -> httpx.Response:
    return await call(http, "POST", "/user", {"id": email, "lists": dict.fromkeys(lists, 0)})


def behind(app: Any) -> httpx.AsyncClient:
    """A client whose requests go straight into the app."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox")


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for a condition; the test's own time limit is the end of patience."""
    while not is_so():  # noqa: ASYNC110 -- what is waited for is told by no event, but by a count
        await asyncio.sleep(0.001)


async def until_held(sandbox: SailthruSandbox, held: int, *, abandoned: int = 0) -> None:
    """Waits until so many calls are held, and the clients of so many of them have gone."""
    await until(lambda: (sandbox.behaviour.held, sandbox.behaviour.held_abandoned) == (held, abandoned))


def account_state(sandbox: SailthruSandbox, key: str = KEY) -> Any:
    """The part of the state that tells about one account."""
    accounts: Any = sandbox.state()["accounts"]
    return accounts[key]
