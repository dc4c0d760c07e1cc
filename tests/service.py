"""The whole service in this process, with the sandboxes as its outside: real store, real worker, no sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.main import Environment, Service, create_app
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.sailthru import SailthruSandbox
from app.settings import Settings
from tests.places import PLACE

WEBHOOK_TOKEN = "webhook-token-of-the-tests"
ADMIN_TOKEN = "admin-token-of-the-tests"
API_KEY, API_SECRET, LYTICS_TOKEN = "test-key", "test-secret", "lytics-token-of-the-tests"
LIST = f"Lytics {SPRING_BUYERS.name}"
HOOK = "/webhooks/lytics"
PATIENCE_SECONDS = 10


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    """Returns once the condition holds; fails if that takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        held = condition()
        if await held if isinstance(held, Awaitable) else held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"This did not come to hold within {PATIENCE_SECONDS} seconds.")
        await asyncio.sleep(0.005)


def settings(folder: Path, **different: Any) -> Settings:
    """Settings that serve, on a database of their own; nothing is read from a `.env` file."""
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
    # A test must not read the .env of whoever runs it.
    return Settings(**values | {"_env_file": None} | different)


@dataclass
class Running:
    """A service that runs, and everything around it."""

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
        """Send a webhook, with a token unless other headers are given; a body that is not bytes becomes JSON."""
        sent = self.token if headers is None else headers
        if isinstance(body, bytes):
            return await self.http.request(method, url, content=body, headers=dict(sent))
        return await self.http.request(method, url, json=body, headers=dict(sent))

    async def admin(self, path: str, *, method: str = "GET", json: object = None) -> httpx.Response:
        """Call our own API as an operator."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        if json is None:
            return await self.http.request(method, path, headers=headers)
        return await self.http.request(method, path, json=json, headers=headers)

    async def exports(self) -> list[dict[str, Any]]:
        """The exports as the API shows them."""
        items: list[dict[str, Any]] = (await self.admin("/exports")).json()["items"]
        return items

    def on_list(self, name: str = LIST) -> set[str]:
        """Who is on a list at Sailthru."""
        return self.sailthru.members(name)


@asynccontextmanager
async def running(
    folder: Path, *, audiences: Iterable[Audience] = (SPRING_BUYERS,), **different: Any
) -> AsyncIterator[Running]:
    """A service on a fresh database; settings in keywords differ from those of `settings`."""
    sailthru = SailthruSandbox({API_KEY: API_SECRET})
    lytics = LyticsSandbox(LYTICS_TOKEN, audiences)
    outside = Environment(
        sailthru=lambda _: httpx.ASGITransport(sailthru),
        lytics=httpx.ASGITransport(lytics),
    )
    app = create_app(settings(folder, **different), outside)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service.test") as http,
    ):
        yield Running(app, http, sailthru, lytics)
