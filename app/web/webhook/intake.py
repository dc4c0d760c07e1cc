"""Handles webhooks: authenticates the request, reads and parses the body, stores the events and answers.

Lytics retries every answer except 200, 400, 404 and 413, so this endpoint never answers 422.
https://www.contentstack.com/docs/lytics/webhooks
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import parse_qs

import structlog
from fastapi import Request, Response

from app.domain.change import AudienceEvent, nanoseconds
from app.domain.errors import MalformedWebhook, RejectedWebhook, StoreUnavailable, UnauthenticatedWebhook
from app.domain.rejection import Reason
from app.explain.rejections import advice
from app.lytics.webhook import WebhookToken, authenticate, read
from app.metrics import Metrics
from app.receive import Receipt
from app.web.problems import problem
from app.web.webhook.body import BODY_TIMEOUT, MAX_BODY_BYTES, RefusedBody, read_body
from app.web.webhook.rejections import Record, RejectionLog

log = structlog.get_logger(__name__)


_RECEIPT = b'{"accepted": %d, "ignored": %d, "rejected": %d}'
_STATUSES = {
    Reason.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Reason.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    Reason.CUT_OFF: HTTPStatus.REQUEST_TIMEOUT,
}


class WebhookIntake:
    """Answers webhooks.

    Args:
        receive: stores events and returns after they are on disk.
        record: stores rejected events.
        is_draining: returns True while every webhook must be answered with a 503, so that Lytics sends it again.
        clock: returns the time, aware and in UTC.
    """

    def __init__(
        self,
        receive: Callable[[Sequence[AudienceEvent]], Awaitable[Receipt]],
        record: Record,
        tokens: Collection[WebhookToken],
        metrics: Metrics,
        *,
        is_draining: Callable[[], bool],
        clock: Callable[[], datetime],
        body_timeout: timedelta = BODY_TIMEOUT,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._receive = receive
        self._rejections = RejectionLog(record)
        self._tokens = tokens
        self._metrics = metrics
        self._is_draining = is_draining
        self._clock = clock
        self._body_timeout = body_timeout
        self._max_body_bytes = max_body_bytes

    async def answer(self, request: Request) -> Response:
        """Handle one webhook. Every error becomes an answer that Lytics understands."""
        try:
            receipt = await self._handle(request)
        except RejectedWebhook as error:
            return self._rejected(error)
        except StoreUnavailable as error:
            log.warning("webhook not stored", why=str(error))
            return self._unavailable(f"{error} This request was not stored. Send it again.")
        except Exception:
            # A bug in this service. Lytics sends the event again, so it can be stored after the bug is fixed.
            log.exception("webhook not stored")
            return self._unavailable("An internal error occurred, and this request was not stored. Send it again.")
        return Response(receipt, media_type="application/json")

    async def _handle(self, request: Request) -> bytes:
        label = self._authenticate(request)
        if self._is_draining():
            raise StoreUnavailable("The service is shutting down.")
        body = await self._read(request)
        now = self._clock()
        reading = read(body, arrived_at_ns=nanoseconds(now))
        receipt = await self._receive(reading.events)
        rejected = [*reading.rejected, *receipt.rejected]
        if rejected:
            await self._rejections.write(body, rejected, now)
            if not receipt.accepted and not receipt.ignored:
                raise MalformedWebhook(rejected[0].reason, rejected[0].happened)
            for rejection in rejected:
                self._metrics.refused(rejection.reason)
            log.warning("events rejected", events=len(rejected), reason=rejected[0].reason)
        self._metrics.received(
            label, accepted=receipt.accepted, ignored=receipt.ignored, rejected=len(rejected), at=now
        )
        return _RECEIPT % (receipt.accepted, receipt.ignored, len(rejected))

    def _authenticate(self, request: Request) -> str:
        """Return the label of the token. The body is not read."""
        # Use the raw scope: building `request.headers` and `request.query_params` costs more than the whole check.
        headers, query_string = dict(request.scope["headers"]), request.scope["query_string"]
        query = parse_qs(query_string.decode("latin-1")) if query_string else {}
        return authenticate(
            headers.get(b"authorization", b"").decode("latin-1"),
            headers.get(b"x-api-key", b"").decode("latin-1"),
            query.get("token", [""])[0],
            self._tokens,
        )

    async def _read(self, request: Request) -> bytes:
        try:
            return await read_body(request.receive, max_bytes=self._max_body_bytes, timeout=self._body_timeout)
        except RefusedBody as error:
            # Record only bodies that are too large. Lytics sends slow or interrupted bodies again.
            if error.reason is Reason.TOO_LARGE:
                await self._rejections.write_too_large(error, self._clock())
            raise

    def _rejected(self, error: RejectedWebhook) -> Response:
        if isinstance(error, UnauthenticatedWebhook):
            status = HTTPStatus.UNAUTHORIZED
        else:
            status = _STATUSES.get(error.reason, HTTPStatus.BAD_REQUEST)
        self._metrics.refused(error.reason)
        log.warning("webhook refused", status=int(status), reason=error.reason)
        # The rest of a body that is too large or too slow stays unread, so the connection cannot be used again.
        headers = {"Connection": "close"} if error.reason in _STATUSES else None
        return problem(status, advice(error.reason, error.happened), headers=headers, reason=error.reason)

    def _unavailable(self, detail: str) -> Response:
        """Return a 503. Lytics waits for Retry-After and sends the request again without counting an error."""
        self._metrics.refused(Reason.UNAVAILABLE)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
