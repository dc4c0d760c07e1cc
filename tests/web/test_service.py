"""The whole service in one process: real routes, real store, the sandbox at the other ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.domain.errors import StoreUnavailable
from app.lytics.webhook import WebhookToken
from app.main import Environment, create_app
from app.metrics import Metrics
from app.receive import Receipt
from app.sandbox import webhooks
from app.sandbox.audiences import SPRING_BUYERS, Audience
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.sailthru import SailthruSandbox
from app.settings import Settings
from app.web.webhook.route import WebhookDoor

TOKEN, ADMIN = "webhook-token-of-the-tests", "admin-token-of-the-tests"
LIST = "Lytics Spring Buyers"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
# A test must not read the .env of whoever runs it.
NO_FILE: dict[str, Any] = {"_env_file": None}
OTHER = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Spring Buyers", "spring_buyers_1")


class Service:
    """The service, and both ends."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.sailthru = SailthruSandbox({"key": "secret"}, closes_connections=False)
        self.lytics = LyticsSandbox("lytics-token")
        given: dict[str, Any] = {
            "database_url": f"sqlite:///{folder / 'service.db'}",
            "webhook_tokens": TOKEN,
            "admin_tokens": ADMIN,
            "lytics_api_token": "lytics-token",
            "sailthru_api_key": "key",
            "sailthru_api_secret": "secret",
            **settings,
        }
        outside = Environment(
            sailthru=lambda _: httpx.ASGITransport(self.sailthru), lytics=httpx.ASGITransport(self.lytics)
        )
        self.app = create_app(Settings(**given, **NO_FILE), outside)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://service", headers={"Authorization": f"Bearer {ADMIN}"}
        )

    async def send(self, *bodies: object) -> httpx.Response:
        for body in bodies:
            answer = await self.http.post("/webhooks/lytics", json=body, headers={"Authorization": TOKEN})
        return answer

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, path: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What a call answers once it is as wanted."""
        async with asyncio.timeout(10):
            while True:
                answer: dict[str, Any] = await self.get(path)
                if holds(answer):
                    return answer
                await asyncio.sleep(0.01)

    async def export(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The newest export once it is as wanted."""
        answer = await self.until("/exports", lambda exports: bool(exports["items"]) and holds(exports["items"][-1]))
        newest: dict[str, Any] = answer["items"][-1]
        return newest


def is_told(export: dict[str, Any]) -> bool:
    return bool(export["state"] == "running" and export["counts"]["pending"] == 0)


@asynccontextmanager
async def running(folder: Path, **settings: object) -> AsyncIterator[Service]:
    service = Service(folder, **settings)
    async with service.app.router.lifespan_context(service.app), service.http:
        yield service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as one:
        yield one


async def test_a_person_arrives_and_the_list_is_right(service: Service) -> None:
    """From the webhook to the list, and what an operator sees of it."""
    answer = await service.send(webhooks.enter("ada@example.com", at=NOON))
    export = await service.export(is_told)
    member = await service.get("/members/ADA@example.com")
    one = await service.get(f"/exports/{export['id']}")
    metrics = (await service.http.get("/metrics")).text

    assert answer.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    assert service.sailthru.members(LIST) == {"ada@example.com"}
    assert one["list"] == LIST
    assert one["list_ready"]
    assert one["members"] == 1
    assert one["last_webhook_at"] is not None
    (membership,) = member["memberships"]
    assert (membership["desired"], membership["confirmed"], membership["state"]) == ("in", "in", "settled")
    assert [entry["what"] for entry in member["timeline"]] == ["received", "called", "answered"]
    assert 'lytics_sailthru_attempts_total{account="default",outcome="ok"} 1.0' in metrics
    assert 'lytics_sailthru_changes{export="1",state="delivered"} 1.0' in metrics


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": TOKEN}, ""),
        ({"Authorization": f"Bearer {TOKEN}"}, ""),
        ({"X-API-Key": TOKEN, "Authorization": ""}, ""),
        ({"Authorization": ""}, f"?token={TOKEN}"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_token_is_taken_wherever_lytics_can_put_it(
    service: Service, headers: dict[str, str], query: str, method: str, slash: str
) -> None:
    """By any method that a job can choose, with any content type."""
    body = json.dumps(webhooks.enter("ada@example.com", at=NOON))
    answer = await service.http.request(
        method, f"/webhooks/lytics{slash}{query}", content=body, headers={**headers, "Content-Type": "text/x-any"}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", f"{TOKEN}x", ADMIN])
async def test_nothing_is_stored_without_a_known_token(service: Service, token: str) -> None:
    answer = await service.http.post(
        "/webhooks/lytics", json=webhooks.enter("ada@example.com", at=NOON), headers={"Authorization": token}
    )

    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await service.get("/exports"))["items"] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b"[[]]", "unknown_shape"),
        (b'{"data": {"email": "ada@example.com"}}', "no_segment_events"),
        (json.dumps(webhooks.enter(None, at=NOON)).encode(), "no_usable_address"),
    ],
)
async def test_what_can_not_be_kept_is_answered_400_with_advice(service: Service, body: bytes, reason: str) -> None:
    """Never 422, which Lytics would send again until its job fails."""
    answer = await service.http.post("/webhooks/lytics", content=body, headers={"Authorization": TOKEN})

    assert answer.status_code == 400
    assert answer.json()["reason"] == reason
    assert "Lytics" in answer.json()["detail"] or "Export Fields" in answer.json()["detail"]


async def test_each_event_of_a_message_stands_alone(service: Service) -> None:
    """A good one is kept beside a bad one and one that is there already."""
    message: dict[str, Any] = webhooks.enter("ada@example.com", at=NOON)
    (event,) = message["data"]["segment_events"]
    message["data"]["segment_events"] = [event, event, {**event, "event": "vanish"}, {**event, "id": "a2"}]
    answer = await service.send(message)

    assert answer.json() == {"accepted": 2, "ignored": 1, "rejected": 1}


async def test_an_exit_with_a_known_id_needs_no_address(service: Service) -> None:
    await service.send(webhooks.enter("ada@example.com", at=NOON, user_id="15"))
    await service.export(is_told)
    answer = await service.send(webhooks.exit_(None, at=NOON + timedelta(seconds=9), user_id="15"))
    await service.export(is_told)

    assert answer.json()["accepted"] == 1
    assert service.sailthru.members(LIST) == set()


async def test_without_auto_export_events_are_ignored_and_shown(tmp_path: Path) -> None:
    async with running(tmp_path, auto_export=False) as service:
        answer = await service.send(webhooks.enter("ada@example.com", at=NOON))
        exports = await service.get("/exports")

    assert answer.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert exports["items"] == []
    assert [(one["audience_id"], one["events"]) for one in exports["unexported"]] == [(SPRING_BUYERS.id, 1)]


async def test_a_nameless_export_waits_for_a_person(tmp_path: Path) -> None:
    """Without a Lytics token changes pile up safely; PATCH names it, and everybody is told."""
    async with running(tmp_path, lytics_api_token=None) as service:
        await service.send(webhooks.enter("ada@example.com", at=NOON))
        waiting = await service.export(lambda export: "LYTICS_API_TOKEN" in (export["reason"] or ""))
        held = await service.get("/members/ada@example.com")
        bad = await service.http.patch("/exports/1", json={"name": " "})
        named = await service.http.patch("/exports/1", json={"name": "Spring Buyers"})
        await service.export(is_told)
        again = await service.http.patch("/exports/1", json={"name": "Other"})

    assert (waiting["state"], waiting["counts"]["pending"]) == ("needs_name", 1)
    assert held["memberships"][0]["state"] == "held"
    assert bad.status_code == 422
    assert named.json()["state"] == "running"
    assert again.status_code == 409
    assert service.sailthru.members(LIST) == {"ada@example.com"}


async def test_a_second_audience_of_a_name_waits_as_name_taken(service: Service) -> None:
    """A list is never shared by two audiences."""
    service.lytics.put(OTHER)
    await service.send(webhooks.enter("ada@example.com", at=NOON))
    await service.export(is_told)
    await service.send(webhooks.enter("ben@example.com", OTHER, at=NOON))
    taken = await service.export(lambda export: export["state"] == "name_taken")
    answer = await service.http.patch(f"/exports/{taken['id']}", json={"name": "Spring Buyers"})
    await service.http.patch(f"/exports/{taken['id']}", json={"name": "Spring Buyers B"})
    await service.export(is_told)

    assert answer.json()["state"] == "name_taken"
    assert service.sailthru.members(LIST) == {"ada@example.com"}
    assert service.sailthru.members("Lytics Spring Buyers B") == {"ben@example.com"}


async def test_lytics_that_is_away_is_asked_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name comes as soon as it answers; the reason is told meanwhile."""
    monkeypatch.setattr("app.delivery.worker.FIRST_PAUSE", timedelta(milliseconds=20))
    service.lytics.availability.unreachable = True
    await service.send(webhooks.enter("ada@example.com", at=NOON))
    waiting = await service.export(lambda export: "PATCH /exports" in (export["reason"] or ""))
    service.lytics.availability.unreachable = False
    service.app.state.service.exports_changed()
    await service.export(is_told)

    assert waiting["state"] == "needs_name"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/exports/7", 404),
        ("GET", "/exports/x", 422),
        ("GET", "/exports/0", 422),
        ("DELETE", "/exports", 405),
        ("GET", "/webhooks/lytics", 405),
    ],
)
async def test_every_error_is_a_problem_that_says_what_to_do(
    service: Service, method: str, path: str, status: int
) -> None:
    answer = await service.http.request(method, path)

    assert answer.status_code == status
    if path != "/webhooks/lytics":
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "path",
    [
        "/exports",
        "/exports/1",
        "/members/ada@example.com",
        "/dead-letters",
        "/rejected-events",
        "/metrics",
        "/openapi.json",
    ],
)
async def test_doors_are_shut_without_an_admin_token(service: Service, path: str) -> None:
    for token in ("", "Bearer wrong", TOKEN):
        answer = await service.http.get(path, headers={"Authorization": token})

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_metrics_token_opens_metrics_alone(tmp_path: Path) -> None:
    async with running(tmp_path, metrics_tokens="metrics-token-of-the-tests") as service:
        token = {"Authorization": "Bearer metrics-token-of-the-tests"}
        answers = [(await service.http.get(path, headers=token)).status_code for path in ("/metrics", "/exports")]
        admin = await service.http.get("/metrics")

    assert answers == [200, 401]
    assert admin.status_code == 401


async def test_a_stranger_has_no_memberships(service: Service) -> None:
    member = await service.get("/members/nobody@example.com")

    assert (member["memberships"], member["timeline"]) == ([], [])


async def test_health_tells_the_store_and_the_accounts(service: Service) -> None:
    """Ready until draining; then webhooks hear 503 and when to come again."""
    alive = await service.get("/health/live")
    ready = await service.get("/health/ready")
    await service.app.state.service.drain()
    draining = await service.http.get("/health/ready")
    refused = await service.send(webhooks.enter("ada@example.com", at=NOON))

    assert alive == {"status": "alive"}
    assert (ready["status"], ready["store"], ready["accounts"]) == ("ready", "ok", {"default": "running"})
    assert (draining.status_code, draining.json()["status"]) == (503, "not ready")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")


async def test_the_description_names_every_call(service: Service) -> None:
    described = await service.get("/openapi.json")

    assert set(described["paths"]) == {
        "/webhooks/lytics",
        "/exports",
        "/exports/{export_id}",
        "/exports/{export_id}/backfills",
        "/exports/{export_id}/backfills/{backfill_id}",
        "/members/{email}",
        "/erasures/{email}",
        "/dead-letters",
        "/dead-letters/redrive",
        "/rejected-events",
        "/lytics/audiences",
        "/lytics/fields",
        "/authorizations",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
    }
    assert set(described["paths"]["/webhooks/lytics"]["post"]["responses"]) == {
        "200",
        "400",
        "401",
        "408",
        "413",
        "503",
    }


async def test_a_mistake_of_ours_is_a_problem_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of what went wrong inside."""

    async def fail(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(service.app.state.service.exports, "reports", fail)
    answer = await service.http.get("/exports/1")

    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_a_refused_account_is_paused_and_shown(tmp_path: Path) -> None:
    """Nobody's attempts are spent on a wrong secret; people stay pending."""
    async with running(tmp_path, sailthru_api_secret="wrong") as service:
        await service.send(*(webhooks.enter(f"p{n}@example.com", at=NOON) for n in range(3)))
        export = await service.export(lambda export: export["state"] == "running")
        await service.until("/health/ready", lambda health: health["accounts"] == {"default": "refused"})
        metrics = (await service.http.get("/metrics")).text

    assert export["counts"]["pending"] == 3
    assert 'lytics_sailthru_account_paused{account="default"} 1.0' in metrics


class Door:
    """The bare door before a receiver that keeps nothing, with small limits."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.door = WebhookDoor(
            self,
            self,
            [WebhookToken("tests", TOKEN)],
            Metrics("x"),
            is_draining=lambda: False,
            clock=lambda: NOON,
            slowest_body=timedelta(milliseconds=50),
            largest_body_bytes=1000,
        )

    async def record(self, events: object) -> None:
        pass

    async def receive(self, events: object) -> Receipt:
        if self.error is not None:
            raise self.error
        return Receipt(len(list(events)) if isinstance(events, list) else 0, 0, ())

    async def send(self, *messages: Message, then_hangs: bool = False) -> tuple[int, dict[bytes, bytes]]:
        waiting = list(messages)
        answers: list[Message] = []

        async def receive() -> Message:
            if not waiting and then_hangs:
                await asyncio.Event().wait()
            return waiting.pop(0)

        async def send(message: Message) -> None:
            answers.append(message)

        scope: Scope = {"type": "http", "headers": [(b"authorization", TOKEN.encode())], "query_string": b""}
        await self._call(scope, receive, send)
        return answers[0]["status"], dict(answers[0]["headers"])

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.door(scope, receive, send)


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


WHOLE = part(json.dumps(webhooks.enter("ada@example.com", at=NOON)).encode())


async def test_a_body_is_counted_while_it_streams_in() -> None:
    """Too large, too slow, cut off: each has its own answer, and the rest is not read."""
    large, headers = await Door().send(*(part(b"x" * 300, more=True) for _ in range(9)))
    slow, _ = await Door().send(part(b"{", more=True), then_hangs=True)
    cut, _ = await Door().send(part(b"{", more=True), {"type": "http.disconnect"})
    whole, _ = await Door().send(WHOLE)

    assert (large, slow, cut, whole) == (413, 408, 408, 200)
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a mistake")])
async def test_what_could_not_be_stored_is_sent_again(error: Exception) -> None:
    """503 with Retry-After: Lytics sleeps, counts no error, and comes again."""
    status, headers = await Door(error).send(WHOLE)

    assert status == 503
    assert headers[b"retry-after"] == b"30"
