"""Clients of a Lytics that answers as it is told to, and waits for nothing."""

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
    """The seconds that a client would have waited, one after the other; what happens meanwhile can be set."""

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
    """Always the same."""
    return client_of(lambda _: response(status, body))


def answering_in_turn(*answers: Answer, waits: Waits | None = None, draw: float = 0.0) -> LyticsClient:
    """One after the other; asking more often fails the test."""
    left = list(answers)

    def handler(_: httpx.Request) -> httpx.Response:
        assert left, "Nobody should ask so often."
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return client_of(handler, waits=waits, draw=draw)


def composed(name: str) -> bytes:
    """An example of the documentation's shape."""
    return (FIXTURES / "composed" / f"{name}.json").read_bytes()


def v1(name: str) -> bytes:
    """An example of the older API's shape."""
    return (FIXTURES / "v1" / f"{name}.json").read_bytes()


def segment(**different: object) -> dict[str, object]:
    """One audience as Lytics sends it."""
    return {"id": "abc", "slug_name": "vip", "name": "VIP"} | different


def enveloped(data: object, **different: Any) -> dict[str, object]:
    return {"data": data, "status": 200} | different


def pages(*rows: Sequence[object], total: int) -> Callable[[httpx.Request], httpx.Response]:
    """A scan of so many pages, whose tokens are their numbers."""

    def handler(request: httpx.Request) -> httpx.Response:
        place = int(request.url.params.get("start", "0"))
        following = str(place + 1) if place + 1 < len(rows) else ""
        return response(200, enveloped(list(rows[place]), _next=following, total=total))

    return handler
