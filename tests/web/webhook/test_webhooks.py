"""The door for Lytics: what each kind of request is answered, and what becomes of it."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Scope

from app.domain.change import AudienceEvent
from app.domain.errors import StoreUnavailable
from app.lytics.webhook import WebhookToken
from app.receive import Receipt
from app.sandbox import webhooks
from app.sandbox.audiences import SPRING_BUYERS, Audience
from app.store.history.rejected import RejectedEvent
from app.web.webhook.route import WebhookDoor
from tests.factories import Clock
from tests.service import ADMIN_TOKEN, HOOK, WEBHOOK_TOKEN, Running, running, until

ADA = "ada@example.com"
NOW = datetime.now(UTC)
AUTUMN = Audience("f9e8d7c6b5a493827160f9e8d7c6b5a4", "Autumn Buyers", "autumn_buyers")
JSON_TYPE, PROBLEM = "application/json", "application/problem+json"


def at(seconds: float) -> datetime:
    return NOW - timedelta(hours=1) + timedelta(seconds=seconds)


def enter(email: str | None = ADA, seconds: float = 0, **more: Any) -> dict[str, Any]:
    return webhooks.enter(email, at=at(seconds), **more)


def counts(accepted: int = 0, ignored: int = 0, rejected: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "ignored": ignored, "rejected": rejected}


class TestEvents:
    async def test_an_enter_puts_on_the_list_and_an_exit_takes_off(self, service: Running) -> None:
        """The whole path: 200 once it is kept, and soon afterwards Sailthru's list is as the audience."""
        entered = await service.webhook(enter())
        await until(lambda: service.on_list() == {ADA})
        left = await service.webhook(webhooks.exit_(ADA, at=at(10)))
        await until(lambda: service.on_list() == set())

        assert (entered.status_code, entered.json()) == (200, counts(accepted=1))
        assert entered.headers["content-type"] == JSON_TYPE
        assert (left.status_code, left.json()) == (200, counts(accepted=1))

    async def test_a_change_moves_nobody(self, service: Running) -> None:
        """A change of somebody who is not on the list is ignored."""
        answer = await service.webhook(webhooks.change(ADA, sent_at=at(0)))

        assert answer.json() == counts(ignored=1)
        assert service.on_list() == set()

    async def test_duplicates_and_older_moves_are_ignored(self, service: Running) -> None:
        """The same body again, or an older one, is answered 200 and changes nothing."""
        answers = [
            (await service.webhook(body)).json()
            for body in (enter(seconds=5), enter(seconds=5), webhooks.exit_(ADA, at=at(1)))
        ]

        assert answers == [counts(accepted=1), counts(ignored=1), counts(ignored=1)]

    async def test_each_segment_event_counts(self, tmp_path: Path) -> None:
        """A message with several events is kept event by event: good ones are stored, bad ones counted as rejected."""
        body = enter()
        events = body["data"]["segment_events"]
        events.append({"id": AUTUMN.id, "slug": AUTUMN.slug, "event": "enter", "enter": webhooks.timestamp(at(1))})
        events.append({"id": AUTUMN.id, "event": "left"})
        events.append("not an event")
        async with running(tmp_path, audiences=(SPRING_BUYERS, AUTUMN)) as service:
            answer = await service.webhook(body)
            await until(lambda: service.on_list() == {ADA} == service.on_list("Lytics Autumn Buyers"))

            assert (answer.status_code, answer.json()) == (200, counts(accepted=2, rejected=2))

    async def test_first_events_of_one_audience_at_the_same_moment(self, service: Running) -> None:
        """However many first events of an unknown audience come together, there is one export and one list."""
        people = {f"person-{number}@example.com" for number in range(30)}
        answers = await asyncio.gather(*(service.webhook(enter(person)) for person in people))
        await until(lambda: service.on_list() == people)

        assert [one.json() for one in answers] == [counts(accepted=1)] * len(people)
        assert len(await service.exports()) == 1

    async def test_without_auto_export_an_audience_is_shown_as_unexported(self, tmp_path: Path) -> None:
        """Events of an audience that nobody exports are ignored, counted and shown."""
        async with running(tmp_path, auto_export=False) as service:
            answers = [(await service.webhook(enter(seconds=second))).json() for second in range(3)]
            shown = (await service.admin("/exports")).json()

        assert answers == [counts(ignored=1)] * 3
        assert shown["items"] == []
        assert [(one["audience_id"], one["audience_slug"], one["events"]) for one in shown["unexported"]] == [
            (SPRING_BUYERS.id, SPRING_BUYERS.slug, 3)
        ]


class TestTokens:
    @pytest.mark.parametrize(
        ("headers", "query"),
        [
            ({"Authorization": WEBHOOK_TOKEN}, ""),
            ({"Authorization": f"Bearer {WEBHOOK_TOKEN}"}, ""),
            ({"Authorization": f"bearer  {WEBHOOK_TOKEN} "}, ""),
            ({"X-API-Key": WEBHOOK_TOKEN}, ""),
            ({}, f"?token={WEBHOOK_TOKEN}"),
            ({}, f"?a=b&token={WEBHOOK_TOKEN}"),
            ({"Authorization": "Basic something-else"}, f"?token={WEBHOOK_TOKEN}"),
        ],
    )
    async def test_three_places(self, service: Running, headers: dict[str, str], query: str) -> None:
        """The token may stand in Authorization, X-API-Key or the query."""
        answer = await service.webhook(enter(), headers, url=f"{HOOK}{query}")

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("headers", "query", "reason"),
        [
            ({}, "", "no_token"),
            ({"Authorization": "Bearer "}, "", "no_token"),
            ({"Authorization": "Bearer wrong-token-of-the-tests"}, "", "unknown_token"),
            ({"X-API-Key": ADMIN_TOKEN}, "", "unknown_token"),
            ({}, f"?token={WEBHOOK_TOKEN[:-1]}", "unknown_token"),
        ],
    )
    async def test_without_a_valid_one(
        self, service: Running, headers: dict[str, str], query: str, reason: str
    ) -> None:
        """401 with what to correct, whatever the body is; nothing is kept, and nothing of the token comes back."""
        answer = await service.webhook(enter(), headers, url=f"{HOOK}{query}")

        assert (answer.status_code, answer.json()["reason"]) == (401, reason)
        assert answer.headers["content-type"] == PROBLEM
        assert "Lytics authorization" in answer.json()["detail"]
        assert "wrong-token" not in answer.text
        assert await service.exports() == []

    async def test_any_of_several(self, tmp_path: Path) -> None:
        """While tokens are rotated, old and new ones are good, labelled or not."""
        tokens = ["old-token-of-the-tests", "new-token-of-the-tests"]
        async with running(tmp_path, webhook_tokens=f"lytics:{tokens[0]}, {tokens[1]}") as service:
            answers = [(await service.webhook(enter(), {"Authorization": one})).status_code for one in tokens]

        assert answers == [200, 200]


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return body


def with_event(**different: object) -> dict[str, Any]:
    body = enter()
    body["data"]["segment_events"][0] |= different
    return body


class TestRefusedBodies:
    @pytest.mark.parametrize(
        ("body", "reason", "advice"),
        [
            (b"{", "not_json", "Lytics Template"),
            (b"", "not_json", "Lytics Template"),
            (b"\xff\xfe", "not_json", "Lytics Template"),
            (b"7", "unknown_shape", "Audience Triggers Webhook"),
            (b'{"data": 7}', "unknown_shape", "Audience Triggers Webhook"),
            (b"[7, {}]", "unknown_shape", "[0] is not an object"),
            (without(enter(), "data", "segment_events"), "no_segment_events", "tick segment_events"),
            (with_event(event="left"), "unknown_event", "enter, exit, change"),
            (with_event(id=""), "no_audience_id", "id"),
            (with_event(enter="yesterday"), "unreadable_time", "segment_events[0].enter"),
            (enter(None), "no_usable_address", "Export Fields"),
            (enter("nobody"), "no_usable_address", "Export Fields"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_400_with_what_to_change(self, service: Running, body: object, reason: str, advice: str) -> None:
        """What can't be kept is refused with 400 (never 422, which Lytics would send again) and the box to tick."""
        answer = await service.webhook(body)

        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["reason"]) == (400, 400, reason)
        assert answer.headers["content-type"] == PROBLEM
        assert problem["title"] == "Bad Request"
        assert advice in problem["detail"]

    async def test_a_refused_webhook_is_counted_once(self, service: Running) -> None:
        """One webhook refused is one in the metrics, whichever part refused it."""
        await service.webhook(b"{")
        await service.webhook(enter(None))
        text = (await service.admin("/metrics")).text

        assert 'lytics_sailthru_webhooks_refused_total{reason="not_json"} 1.0' in text
        assert 'lytics_sailthru_webhooks_refused_total{reason="no_usable_address"} 1.0' in text


class TestMethodsAndPaths:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    @pytest.mark.parametrize("path", [HOOK, f"{HOOK}/"])
    async def test_all_that_lytics_offers(self, service: Running, method: str, path: str) -> None:
        """Lytics' job may use POST, PUT or PATCH, and the address may end with a slash."""
        answer = await service.webhook(enter(), method=method, url=path)

        assert (answer.status_code, answer.json()) == (200, counts(accepted=1))

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain", "application/x-www-form-urlencoded", "application/cloudevents+json; charset=utf-16", "", "?"],
    )
    async def test_any_content_type(self, service: Running, content_type: str) -> None:
        """The body is read as JSON whatever it calls itself."""
        body = json.dumps(enter()).encode()
        answer = await service.webhook(body, {**service.token, "Content-Type": content_type})

        assert answer.status_code == 200

    async def test_get_is_not_for_webhooks(self, service: Running) -> None:
        """A look with a browser is answered 405, and tells which methods there are."""
        answer = await service.http.get(HOOK)

        assert answer.status_code == 405
        assert answer.headers["content-type"] == PROBLEM
        assert {one.strip() for one in answer.headers["allow"].split(",")} == {"POST", "PUT", "PATCH"}


class TestDraining:
    async def test_503_and_when_to_come_again(self, service: Running) -> None:
        """While draining every webhook is sent away, and Lytics keeps it for half a minute."""
        await service.service.drain()
        answer = await service.webhook(enter())

        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.headers["content-type"] == PROBLEM
        assert "send it again" in answer.json()["detail"]

    async def test_who_has_no_token_hears_nothing_of_it(self, service: Running) -> None:
        """The token comes first."""
        await service.service.drain()
        answer = await service.webhook(enter(), {})

        assert answer.status_code == 401


class Receiver:
    """Accepts everything, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.events: list[AudienceEvent] = []

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        if self.error is not None:
            raise self.error
        self.events += events
        return Receipt(len(events), 0, ())


class Meter:
    """Notes what is counted."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.accepted = 0

    def received(self, token: str, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        self.accepted += accepted

    def refused(self, reason: str) -> None:
        self.reasons.append(reason)


class Visit:
    """One request to a door, part by part, and what was answered."""

    def __init__(self, messages: Iterable[Message], *, then_hangs: bool = False) -> None:
        self.messages = list(messages)
        self.then_hangs = then_hangs
        self.sent: list[Message] = []

    async def to(self, door: WebhookDoor) -> None:
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": HOOK,
            "query_string": b"",
            "headers": [(b"authorization", WEBHOOK_TOKEN.encode())],
        }
        await door(scope, self.receive, self.send)

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


class Records:
    """Keeps rejected events in memory, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.events: list[RejectedEvent] = []

    async def record(self, events: Sequence[RejectedEvent]) -> None:
        if self.error is not None:
            raise self.error
        self.events += events


def door(receiver: Receiver, meter: Meter | None = None, records: Records | None = None, **limits: Any) -> WebhookDoor:
    return WebhookDoor(
        receiver,
        records or Records(),
        [WebhookToken("tests", WEBHOOK_TOKEN)],
        meter or Meter(),
        is_draining=lambda: False,
        clock=Clock(),
        **limits,
    )


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class TestLimits:
    async def test_a_body_in_parts(self) -> None:
        """A body may come in any number of parts, empty ones too."""
        body = json.dumps(enter()).encode()
        receiver, visit = Receiver(), Visit([part(body[:40]), part(b""), part(body[40:], more=False)])
        await visit.to(door(receiver))

        assert (visit.status, visit.body) == (200, counts(accepted=1))
        assert len(receiver.events) == 1

    async def test_413_while_the_body_streams_in(self) -> None:
        """Not a byte is read beyond the part that crosses the limit, and the advice is to lower the batch size."""
        visit = Visit([part(b"x" * 60), part(b"x" * 41), part(b"never read")])
        receiver, meter, records = Receiver(), Meter(), Records()
        await visit.to(door(receiver, meter, records, largest_body_bytes=100))
        (noted,) = records.events

        assert (visit.status, visit.body["reason"]) == (413, "too_large")
        assert (noted.reason, noted.body_bytes, noted.body) == ("too_large", 101, "x" * 101)
        assert noted.happened == "The body has more than 100 bytes."
        assert "Batch Size" in visit.body["detail"]
        assert visit.headers[b"connection"] == b"close"
        assert visit.messages == [part(b"never read")]
        assert (receiver.events, meter.reasons) == ([], ["too_large"])

    async def test_the_largest_body_is_taken(self) -> None:
        """A body of just the largest size is read."""
        body = json.dumps(enter()).encode()
        visit = Visit([part(body, more=False)])
        await visit.to(door(Receiver(), largest_body_bytes=len(body)))

        assert visit.status == 200

    async def test_408_when_the_body_is_slow(self) -> None:
        """Whoever stops sending half-way is answered and let go."""
        visit, meter, records = Visit([part(b"{")], then_hangs=True), Meter(), Records()
        await visit.to(door(Receiver(), meter, records, slowest_body=timedelta(milliseconds=20)))

        assert (visit.status, visit.body["reason"]) == (408, "too_slow")
        assert "0.02 seconds" in visit.body["detail"]
        assert visit.headers[b"connection"] == b"close"
        assert meter.reasons == ["too_slow"]
        # Lytics sends it again, and then it may be good.
        assert records.events == []

    async def test_408_when_the_body_is_cut_off(self) -> None:
        """Half a body is no webhook, even if it could be read as one."""
        visit, records = Visit([part(json.dumps(enter()).encode()), {"type": "http.disconnect"}]), Records()
        receiver = Receiver()
        await visit.to(door(receiver, records=records))

        assert (visit.status, visit.body["reason"]) == (408, "cut_off")
        assert (receiver.events, records.events) == ([], [])


class TestStoreUnavailable:
    @pytest.mark.parametrize(
        ("error", "detail"),
        [
            (StoreUnavailable("The disk is full."), "The disk is full."),
            (RuntimeError("something with ada@example.com"), "The service made a mistake"),
        ],
    )
    async def test_503_and_when_to_come_again(self, error: Exception, detail: str) -> None:
        """What could not be kept is sent again by Lytics, also where the mistake is ours; no address is told."""
        visit, meter = Visit([part(json.dumps(enter()).encode(), more=False)]), Meter()
        await visit.to(door(Receiver(error), meter))

        assert (visit.status, visit.headers[b"retry-after"]) == (503, b"30")
        assert visit.headers[b"content-type"] == PROBLEM.encode()
        assert detail in visit.body["detail"]
        assert ADA not in visit.body["detail"]
        assert (meter.reasons, meter.accepted) == (["unavailable"], 0)

    @pytest.mark.parametrize("error", [StoreUnavailable("The disk is full."), RuntimeError("a mistake")])
    @pytest.mark.parametrize(
        ("body", "status"), [(b"{", 400), (json.dumps([enter(), 7]).encode(), 200), (b"x" * 9999, 413)]
    )
    async def test_a_refusal_that_can_not_be_recorded_stays_one(
        self, error: Exception, body: bytes, status: int
    ) -> None:
        """What was refused is no better for being sent again, and what was kept is kept."""
        visit = Visit([part(body, more=False)])
        await visit.to(door(Receiver(), records=Records(error), largest_body_bytes=2000))

        assert visit.status == status
