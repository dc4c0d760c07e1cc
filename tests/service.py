"""The whole service in the process of the tests, between the two sandboxes, without sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.main import Environment, create_app
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.sailthru import SailthruSandbox
from app.service import Service
from app.settings import Settings
from tests.places import PLACE

WEBHOOK_TOKEN = "webhook-token-of-the-tests"
ADMIN_TOKEN = "admin-token-of-the-tests"
API_KEY, API_SECRET, LYTICS_TOKEN = "test-key", "test-secret", "lytics-token-of-the-tests"
LIST = f"Lytics {SPRING_BUYERS.name}"
HOOK = "/webhooks/lytics"
PATIENCE_SECONDS = 10


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    """Wait until the condition holds. Fail after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        result = condition()
        if await result if isinstance(result, Awaitable) else result:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"The condition did not hold within {PATIENCE_SECONDS} seconds.")
        await asyncio.sleep(0.005)


def settings(folder: Path, **different: Any) -> Settings:
    """Return complete settings with a new database."""
    values: dict[str, Any] = {
        "database_url": PLACE.url(folder),
        "webhook_tokens": WEBHOOK_TOKEN,
        "admin_tokens": ADMIN_TOKEN,
        "sailthru_api_key": API_KEY,
        "sailthru_api_secret": API_SECRET,
        "sailthru_base_url": "https://sailthru.test",
        "lytics_api_token": LYTICS_TOKEN,
        "lytics_base_url": "https://lytics.test",
    }
    # A test must not read the developer's .env file.
    return Settings(**values | {"_env_file": None} | different)


@dataclass
class Running:
    """A running service, its sandboxes and an HTTP client."""

    app: FastAPI
    http: httpx.AsyncClient
    sailthru: SailthruSandbox
    lytics: LyticsSandbox
    token: dict[str, str] = field(default_factory=lambda: {"Authorization": WEBHOOK_TOKEN})

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    async def webhook(
        self,
        body: object,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        url: str = HOOK,
    ) -> httpx.Response:
        """Send a webhook. A body that is not bytes is sent as JSON.

        Args:
            headers: replace the header with the webhook token.
        """
        sent = self.token if headers is None else headers
        if isinstance(body, bytes):
            return await self.http.request(method, url, content=body, headers=dict(sent))
        return await self.http.request(method, url, json=body, headers=dict(sent))

    async def admin(self, path: str, *, method: str = "GET", json: object = None) -> httpx.Response:
        """Call the service's API as an operator."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        if json is None:
            return await self.http.request(method, path, headers=headers)
        return await self.http.request(method, path, json=json, headers=headers)

    async def exports(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.admin("/exports")).json()["items"]
        return items

    def on_list(self, name: str = LIST) -> set[str]:
        """Return the members of a list in Sailthru."""
        return self.sailthru.members(name)


@asynccontextmanager
async def running(
    folder: Path, *, audiences: Iterable[Audience] = (SPRING_BUYERS,), **different: Any
) -> AsyncIterator[Running]:
    """Run a service on a new database. Keyword arguments replace settings."""
    sailthru = SailthruSandbox({API_KEY: API_SECRET})
    lytics = LyticsSandbox(LYTICS_TOKEN, audiences)
    environment = Environment(
        sailthru=lambda _: httpx.ASGITransport(sailthru),
        lytics=httpx.ASGITransport(lytics),
    )
    app = create_app(settings(folder, **different), environment)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service.test") as http,
    ):
        yield Running(app, http, sailthru, lytics)
