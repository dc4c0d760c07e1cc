"""The door for Lytics: bare ASGI before the framework, whose stack, routing and models cost more than the work itself.

Lytics retries every answer but 200, 400, 404 and 413; 422 must never leave here.
https://www.contentstack.com/docs/lytics/webhooks
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

import structlog
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.domain.change import AudienceEvent
from app.domain.errors import MalformedWebhook, RejectedWebhook, StoreUnavailable, UnauthenticatedWebhook
from app.domain.rejection import Reason
from app.lytics.webhook import WebhookToken, authenticate, read
from app.receive import Receipt
from app.web.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, problem_body
from app.web.webhook.body import LARGEST_BODY_BYTES, SLOWEST_BODY, RefusedBody, read_body
from app.web.webhook.rejections import Records, Refusals

log = structlog.get_logger(__name__)

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
PATH = "/webhooks/lytics"
PATHS = (PATH, f"{PATH}/")
METHODS = ("POST", "PUT", "PATCH")

_RECEIPT = b'{"accepted": %d, "ignored": %d, "rejected": %d}'
_STATUSES = {
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    Reason.CUT_OFF: HTTPStatus.REQUEST_TIMEOUT,
}


class Receives(Protocol):
    """Verb 1."""

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        """Keep the events; returns once they are on disk."""
        ...


class Meter(Protocol):
    """What is counted."""

    def received(self, token: str, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        """A webhook was stored, which showed the token of this label."""
        ...

    def refused(self, reason: str) -> None:
        """A webhook was not stored."""
        ...


class WebhookDoor:
    """Takes one webhook: token, body, events, commit, answer.

    Args:
        records: where rejected events are kept.
        is_draining: while true, every webhook is sent away with 503, and Lytics comes again.
        clock: the time, aware and in UTC.
    """

    def __init__(
        self,
        receiver: Receives,
        records: Records,
        tokens: Collection[WebhookToken],
        meter: Meter,
        *,
        is_draining: Callable[[], bool],
        clock: Callable[[], datetime],
        slowest_body: timedelta = SLOWEST_BODY,
        largest_body_bytes: int = LARGEST_BODY_BYTES,
    ) -> None:
        self._receiver = receiver
        self._refusals = Refusals(records)
        self._tokens = tokens
        self._meter = meter
        self._is_draining = is_draining
        self._clock = clock
        self._slowest_body = slowest_body
        self._largest_body_bytes = largest_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            receipt = await self._take(scope, receive)
        except RejectedWebhook as error:
            status = _status_of(error)
            self._meter.refused(error.reason)
            log.warning("webhook refused", status=int(status), reason=error.reason)
            # The rest of a body that is too large or too slow is not read.
            closes = ((b"connection", b"close"),) if error.reason in _STATUSES else ()
            await _answer(send, status, problem_body(status, str(error), reason=error.reason), *closes)
        except StoreUnavailable as error:
            log.warning("webhook not stored", why=str(error))
            await self._send_away(send, f"{error} This request was not kept; send it again.")
        except Exception:
            # A mistake of ours: the sender keeps the event, and comes again once it is mended.
            log.exception("webhook not stored")
            await self._send_away(send, "The service made a mistake and did not keep this request; send it again.")
        else:
            await _answer(send, HTTPStatus.OK, receipt, media_type=b"application/json")

    async def _send_away(self, send: Send, detail: str) -> None:
        self._meter.refused(Reason.UNAVAILABLE)
        status = HTTPStatus.SERVICE_UNAVAILABLE
        # Lytics then sleeps for so long, counts no error, and sends the request again.
        retry_after = (b"retry-after", str(RETRY_AFTER_SECONDS).encode())
        await _answer(send, status, problem_body(status, detail), retry_after)

    async def _take(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        label = authenticate(
            headers.get(b"authorization", b"").decode("latin-1"),
            headers.get(b"x-api-key", b"").decode("latin-1"),
            query.get("token", [""])[0],
            self._tokens,
        )
        if self._is_draining():
            raise StoreUnavailable("The service is shutting down.")
        body = await self._read(receive)
        now = self._clock()
        reading = read(body, arrived_at_ns=(now - EPOCH) // MICROSECOND * 1000)
        receipt = await self._receiver.receive(reading.events)
        rejected = [*reading.rejected, *receipt.rejected]
        if rejected:
            await self._refusals.note(body, rejected, now)
            if not receipt.accepted and not receipt.ignored:
                raise MalformedWebhook(rejected[0].reason, rejected[0].happened)
            for one in rejected:
                self._meter.refused(one.reason)
            log.warning("events rejected", events=len(rejected), reason=rejected[0].reason)
        self._meter.received(label, accepted=receipt.accepted, ignored=receipt.ignored, rejected=len(rejected), at=now)
        return _RECEIPT % (receipt.accepted, receipt.ignored, len(rejected))

    async def _read(self, receive: Receive) -> bytes:
        try:
            return await read_body(receive, largest_bytes=self._largest_body_bytes, slowest=self._slowest_body)
        except RefusedBody as error:
            # One that was too slow or cut off is sent again by Lytics, and then it may be good.
            if error.reason is Reason.TOO_LARGE:
                await self._refusals.note_too_large(error, self._clock())
            raise


class WebhooksFirst(FastAPI):
    """FastAPI, but webhooks go to their door at once, past all that stands before the other routes."""

    def __init__(self, door: WebhookDoor, **options: Any) -> None:  # noqa: ANN401 - those of FastAPI
        super().__init__(**options)
        self._door = door
        # What is no webhook by its method is told so by the router.
        for path in PATHS:
            self.router.routes.append(Route(path, door, methods=list(METHODS), include_in_schema=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] in PATHS and scope["method"] in METHODS:
            await self._door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _status_of(error: RejectedWebhook) -> HTTPStatus:
    if isinstance(error, UnauthenticatedWebhook):
        return HTTPStatus.UNAUTHORIZED
    return _STATUSES.get(error.reason, HTTPStatus.BAD_REQUEST)


async def _answer(
    send: Send, status: HTTPStatus, body: bytes, *more: tuple[bytes, bytes], media_type: bytes = MEDIA_TYPE.encode()
) -> None:
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
