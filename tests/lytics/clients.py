"""Lytics clients with scripted answers. They record waits instead of sleeping."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from app.lytics.client import LyticsClient
from tests.factories import NOON

TOKEN = "at.abc.secret"
FIXTURES = Path(__file__).parents[1] / "fixtures" / "lytics"

Answer = httpx.Response | Exception


class Waits(list[float]):
    """Records the seconds that a client would have waited. `meanwhile` runs during each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)
        self.meanwhile()


def client_of(
    handler: Callable[[httpx.Request], httpx.Response], *, waits: Waits | None = None, draw: float = 0.0
) -> LyticsClient:
    return LyticsClient(
        TOKEN,
        "https://api.example.com",
        transport=httpx.MockTransport(handler),
        sleep=Waits() if waits is None else waits,
        draw=lambda: draw,
        clock=lambda: NOON,
    )


def response(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, content=body if isinstance(body, bytes) else json.dumps(body), headers=headers)


def answering(status: int, body: object) -> LyticsClient:
    """Return a client that always gets this answer."""
    return client_of(lambda _: response(status, body))


def answering_in_turn(*answers: Answer, waits: Waits | None = None, draw: float = 0.0) -> LyticsClient:
    """Return a client that gets these answers in order. Each further call fails the test."""
    remaining = list(answers)

    def handler(_: httpx.Request) -> httpx.Response:
        assert remaining, "There are more calls than answers."
        answer = remaining.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return client_of(handler, waits=waits, draw=draw)


def composed(name: str) -> bytes:
    """Return an example in the form of the documentation."""
    return (FIXTURES / "composed" / f"{name}.json").read_bytes()


def v1(name: str) -> bytes:
    """Return an example in the form of the v1 API."""
    return (FIXTURES / "v1" / f"{name}.json").read_bytes()


def segment(**different: object) -> dict[str, object]:
    """Return an audience in Lytics' form."""
    return {"id": "abc", "slug_name": "vip", "name": "VIP"} | different


def enveloped(data: object, **different: Any) -> dict[str, object]:
    return {"data": data, "status": 200} | different


def pages(*rows: Sequence[object], total: int) -> Callable[[httpx.Request], httpx.Response]:
    """Return the handler of a scan with these pages. The token of a page is its number."""

    def handler(request: httpx.Request) -> httpx.Response:
        index = int(request.url.params.get("start", "0"))
        next_token = str(index + 1) if index + 1 < len(rows) else ""
        return response(200, enveloped(list(rows[index]), _next=next_token, total=total))

    return handler
