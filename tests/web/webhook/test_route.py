"""The webhook route alone, with a receiver that stores nothing: limits of the body, and failures of the store."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.types import Message, Scope

from app.domain.change import AudienceEvent
from app.domain.errors import StoreUnavailable
from app.lytics.webhook import WebhookToken
from app.metrics import Metrics
from app.receive import Receipt
from app.store.history.rejected import RejectedEvent
from app.web import problems
from app.web.webhook import route
from app.web.webhook.intake import WebhookIntake
from app.web.webhook.route import RequestRoute
from tests.factories import Clock
from tests.service import HOOK, WEBHOOK_TOKEN
from tests.web.webhook.messages import ADA, counts, enter

BODY = json.dumps(enter()).encode()


class Endpoint:
    """An app with only the webhook route. It stores events in memory, or raises the given errors."""

    def __init__(
        self, *, store_error: Exception | None = None, record_error: Exception | None = None, **limits: Any
    ) -> None:
        self.store_error, self.record_error = store_error, record_error
        self.events: list[AudienceEvent] = []
        self.recorded: list[RejectedEvent] = []
        self.metrics = Metrics("x")
        self.app = FastAPI(openapi_url=None)
        self.app.include_router(route.router)
        problems.install(self.app)
        self.app.state.webhooks = WebhookIntake(
            self.receive,
            self.record,
            [WebhookToken("tests", WEBHOOK_TOKEN)],
            self.metrics,
            is_draining=lambda: False,
            clock=Clock(),
            **limits,
        )

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        if self.store_error is not None:
            raise self.store_error
        self.events += events
        return Receipt(len(events), 0, ())

    async def record(self, events: Sequence[RejectedEvent]) -> None:
        if self.record_error is not None:
            raise self.record_error
        self.recorded += events

    def rejected(self) -> dict[str, float]:
        """Return the number of rejected webhooks, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "lytics_sailthru_webhooks_refused_total" and sample.value
        }


class Client:
    """Sends one request in parts and stores the answer."""

    def __init__(self, messages: Iterable[Message], *, then_hangs: bool = False) -> None:
        self.messages = list(messages)
        self.then_hangs = then_hangs
        self.sent: list[Message] = []

    async def call(self, endpoint: Endpoint, token: str = WEBHOOK_TOKEN) -> None:
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": HOOK,
            "query_string": b"",
            "headers": [(b"authorization", token.encode())],
        }
        await endpoint.app(scope, self.receive, self.send)

    async def receive(self) -> Message:
        if not self.messages and self.then_hangs:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(dict(message))

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.sent[1]["body"])
        return body


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class TestBody:
    async def test_body_may_arrive_in_parts(self) -> None:
        endpoint, client = Endpoint(), Client([part(BODY[:40]), part(b""), part(BODY[40:], more=False)])
        await client.call(endpoint)

        assert (client.status, client.body) == (200, counts(accepted=1))
        assert len(endpoint.events) == 1

    @pytest.mark.parametrize("token", ["", "wrong-token-of-the-tests"])
    async def test_body_is_not_read_without_a_valid_token(self, token: str) -> None:
        endpoint, client = Endpoint(), Client([part(BODY, more=False)])
        await client.call(endpoint, token)

        assert client.status == 401
        assert client.messages == [part(BODY, more=False)]

    async def test_too_large_body_answers_413_and_is_not_read_to_its_end(self) -> None:
        endpoint = Endpoint(max_body_bytes=100)
        client = Client([part(b"x" * 60), part(b"x" * 41), part(b"never read")])
        await client.call(endpoint)
        (recorded,) = endpoint.recorded

        assert (client.status, client.body["reason"]) == (413, "too_large")
        assert (recorded.reason, recorded.body_bytes, recorded.body) == ("too_large", 101, "x" * 101)
        assert recorded.happened == "The body has more than 100 bytes."
        assert "Batch Size" in client.body["detail"]
        assert client.headers[b"connection"] == b"close"
        assert client.messages == [part(b"never read")]
        assert (endpoint.events, endpoint.rejected()) == ([], {"too_large": 1})

    async def test_body_of_the_largest_size_is_accepted(self) -> None:
        client = Client([part(BODY, more=False)])
        await client.call(Endpoint(max_body_bytes=len(BODY)))

        assert client.status == 200

    async def test_slow_body_answers_408_and_is_not_recorded(self) -> None:
        """Lytics sends the body again, and the next request may be complete."""
        endpoint, client = Endpoint(body_timeout=timedelta(milliseconds=20)), Client([part(b"{")], then_hangs=True)
        await client.call(endpoint)

        assert (client.status, client.body["reason"]) == (408, "too_slow")
        assert "0.02 seconds" in client.body["detail"]
        assert client.headers[b"connection"] == b"close"
        assert endpoint.rejected() == {"too_slow": 1}
        assert endpoint.recorded == []

    async def test_interrupted_body_answers_408_and_stores_nothing(self) -> None:
        """The part that arrived is valid JSON."""
        endpoint, client = Endpoint(), Client([part(BODY), {"type": "http.disconnect"}])
        await client.call(endpoint)

        assert (client.status, client.body["reason"]) == (408, "cut_off")
        assert client.headers[b"connection"] == b"close"
        assert (endpoint.events, endpoint.recorded) == ([], [])


class TestStoreUnavailable:
    @pytest.mark.parametrize(
        ("error", "detail"),
        [
            (StoreUnavailable("The disk is full."), "The disk is full."),
            (RuntimeError("something with ada@example.com"), "An internal error occurred"),
        ],
    )
    async def test_unstored_webhook_answers_503_with_retry_after(self, error: Exception, detail: str) -> None:
        """Lytics sends the webhook again. The answer contains no address."""
        endpoint, client = Endpoint(store_error=error), Client([part(BODY, more=False)])
        await client.call(endpoint)

        assert (client.status, client.headers[b"retry-after"]) == (503, b"30")
        assert client.headers[b"content-type"] == problems.MEDIA_TYPE.encode()
        assert detail in client.body["detail"]
        assert ADA not in client.body["detail"]
        assert endpoint.rejected() == {"unavailable": 1}
        assert endpoint.metrics.registry.get_sample_value("lytics_sailthru_events_total", {"outcome": "accepted"}) in {
            None,
            0,
        }

    @pytest.mark.parametrize("error", [StoreUnavailable("The disk is full."), RuntimeError("a bug")])
    @pytest.mark.parametrize(
        ("body", "status"), [(b"{", 400), (json.dumps([enter(), 7]).encode(), 200), (b"x" * 9999, 413)]
    )
    async def test_failure_to_record_a_rejected_event_does_not_change_the_answer(
        self, error: Exception, body: bytes, status: int
    ) -> None:
        client = Client([part(body, more=False)])
        await client.call(Endpoint(record_error=error, max_body_bytes=2000))

        assert client.status == status


def test_dependency_that_the_route_would_ignore_is_refused() -> None:
    async def endpoint(request: Request) -> Response:
        raise AssertionError("The route is never called.")

    router = APIRouter(route_class=RequestRoute)
    with pytest.raises(TypeError, match="/hook has dependencies"):
        router.add_api_route("/hook", endpoint, dependencies=[Depends(lambda: None)])
