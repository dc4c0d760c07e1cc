"""
The door for Lytics: a bare ASGI endpoint, since a framework's routing and models cost more than the work itself.

Lytics retries every answer but 200, 400, 404 and 413; 422 must never leave here.
https://www.contentstack.com/docs/lytics/webhooks
"""

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.domain.change import AudienceEvent
from app.domain.errors import MalformedWebhook, RejectedWebhook, StoreUnavailable, UnauthenticatedWebhook
from app.lytics.webhook import WebhookToken, authenticate, read
from app.receive import Receipt
from app.web.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, declared, problem_body

log = structlog.get_logger(__name__)

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
LARGEST_BODY_BYTES = 16 * 1024 * 1024
SLOWEST_BODY = timedelta(seconds=10)
PATH = "/webhooks/lytics"
METHODS = ("POST", "PUT", "PATCH")


class Receives(Protocol):
    """
    Verb 1.
    """

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        """
        Keep the events; returns once they are on disk.
        """
        ...


class Meter(Protocol):
    """
    What is counted.
    """

    def received(self, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        """
        A webhook was stored.
        """
        ...

    def refused(self, reason: str) -> None:
        """
        A webhook was not stored.
        """
        ...


class RefusedBody(RejectedWebhook):
    """
    The body did not come whole: too large, or too slow.
    """

    def __init__(self, status: HTTPStatus, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.status = status


class WebhookDoor:
    """
    Takes one webhook: token, body, events, commit, answer.

    Args:
        is_draining: while true, every webhook is sent away with 503, and Lytics comes again.
        clock: the time, aware and in UTC.
    """

    def __init__(
        self,
        receiver: Receives,
        tokens: Collection[WebhookToken],
        meter: Meter,
        *,
        is_draining: Callable[[], bool],
        clock: Callable[[], datetime],
        slowest_body: timedelta = SLOWEST_BODY,
        largest_body_bytes: int = LARGEST_BODY_BYTES,
    ) -> None:
        self._receiver = receiver
        self._tokens = tokens
        self._meter = meter
        self._is_draining = is_draining
        self._clock = clock
        self._slowest_body = slowest_body
        self._largest_body_bytes = largest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one request.
        """
        try:
            receipt = await self._take(scope, receive)
        except RejectedWebhook as error:
            status = _status_of(error)
            self._meter.refused(error.reason)
            log.warning("webhook refused", status=int(status), reason=error.reason)
            await _answer(send, status, problem_body(status, str(error), reason=error.reason))
        except StoreUnavailable as error:
            log.warning("webhook not stored", why=str(error))
            await self._send_away(send, f"{error} Nothing of this request was kept; send it again.")
        except Exception:
            # A mistake of ours: the sender keeps the event, and comes again once it is mended.
            log.exception("webhook not stored")
            await self._send_away(send, "The service made a mistake and kept nothing of this request; send it again.")
        else:
            await _answer(send, HTTPStatus.OK, receipt, media_type="application/json")

    async def _send_away(self, send: Send, detail: str) -> None:
        self._meter.refused("unavailable")
        status = HTTPStatus.SERVICE_UNAVAILABLE
        await _answer(send, status, problem_body(status, detail))

    async def _take(self, scope: Scope, receive: Receive) -> bytes:
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        authenticate(
            headers.get("authorization"), headers.get("x-api-key"), query.get("token", [None])[0], self._tokens
        )
        if self._is_draining():
            raise StoreUnavailable("The service is shutting down.")
        body = await self._read_body(receive)
        now = self._clock()
        reading = read(body, arrived_at_ns=(now - EPOCH) // MICROSECOND * 1000)
        receipt = await self._receiver.receive(reading.events)
        rejected = [*reading.rejected, *receipt.rejected]
        if rejected and not receipt.accepted and not receipt.ignored:
            raise MalformedWebhook(rejected[0].reason, rejected[0].advice)
        for one in rejected:
            self._meter.refused(one.reason)
        counts = {"accepted": receipt.accepted, "ignored": receipt.ignored, "rejected": len(rejected)}
        self._meter.received(**counts, at=now)
        return json.dumps(counts).encode()

    async def _read_body(self, receive: Receive) -> bytes:
        """
        The whole body, counted while it streams in: its announced length may be missing or wrong.
        """
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._slowest_body.total_seconds()):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedBody(
                            HTTPStatus.REQUEST_TIMEOUT, "cut_off", "The connection ended before the body was whole."
                        )
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._largest_body_bytes:
                        raise RefusedBody(
                            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                            "too_large",
                            f"The body has more than {self._largest_body_bytes:,} bytes. "
                            "In the Lytics job, lower Batch Size, or choose fewer Export Fields.",
                        )
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise RefusedBody(
                HTTPStatus.REQUEST_TIMEOUT,
                "too_slow",
                f"The body took more than {self._slowest_body.total_seconds():g} seconds to arrive.",
            ) from None


def _status_of(error: RejectedWebhook) -> HTTPStatus:
    if isinstance(error, RefusedBody):
        return error.status
    return HTTPStatus.UNAUTHORIZED if isinstance(error, UnauthenticatedWebhook) else HTTPStatus.BAD_REQUEST


async def _answer(send: Send, status: HTTPStatus, body: bytes, *, media_type: str = MEDIA_TYPE) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        # Lytics then sleeps for so long, counts no error, and sends the request again.
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    if status in {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}:
        # The rest of the body is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def describe() -> dict[str, object]:
    """
    The door's place in the OpenAPI: the bare endpoint can't describe itself.
    """
    receipt = {
        "type": "object",
        "required": ["accepted", "ignored", "rejected"],
        "properties": {name: {"type": "integer"} for name in ("accepted", "ignored", "rejected")},
    }
    operation: dict[str, object] = {
        "tags": ["webhooks"],
        "summary": "Take an audience event of Lytics",
        "description": "200 once everything that can be kept is on disk. The token stands in Authorization, X-API-Key "
        "or ?token=.",
        "parameters": [
            {"name": "token", "in": "query", "required": False, "schema": {"type": "string"}},
            {"name": "X-API-Key", "in": "header", "required": False, "schema": {"type": "string"}},
        ],
        "requestBody": {"content": {"application/json": {"schema": BODY_SCHEMA}}},
        "responses": {
            "200": {"description": "Stored", "content": {"application/json": {"schema": receipt}}},
            **{str(status): answer for status, answer in declared(400, 401, 408, 413, 503).items()},
        },
    }
    return {method.lower(): {**operation, "operationId": f"{method.lower()}_webhook"} for method in METHODS}


BODY_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "The Lytics user."},
        "data": {
            "type": "object",
            "required": ["segment_events"],
            "properties": {
                "email": {"type": "string"},
                "segment_events": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["id", "event"],
                        "properties": {
                            "id": {"type": "string"},
                            "slug": {"type": "string"},
                            "event": {"enum": ["enter", "exit", "change"]},
                            "enter": {"type": "string", "format": "date-time"},
                            "exit": {"type": "string", "format": "date-time"},
                        },
                    },
                },
            },
        },
        "meta": {"type": "object", "properties": {"timestamp": {"type": "string", "format": "date-time"}}},
    },
}
