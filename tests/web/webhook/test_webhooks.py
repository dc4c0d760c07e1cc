"""The webhook endpoint in the whole service: the answer to each kind of request, and the stored events."""

import asyncio
import json
from pathlib import Path

import pytest

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from tests.service import ADMIN_TOKEN, HOOK, WEBHOOK_TOKEN, Running, running, until
from tests.web.webhook.messages import ADA, at, counts, enter, with_event, without

AUTUMN = Audience("f9e8d7c6b5a493827160f9e8d7c6b5a4", "Autumn Buyers", "autumn_buyers")
JSON_TYPE, PROBLEM = "application/json", "application/problem+json"


class TestEvents:
    async def test_enter_joins_the_list_and_exit_leaves_it(self, service: Running) -> None:
        entered = await service.webhook(enter())
        await until(lambda: service.on_list() == {ADA})
        left = await service.webhook(webhooks.exit_(ADA, at=at(10)))
        await until(lambda: service.on_list() == set())

        assert (entered.status_code, entered.json()) == (200, counts(accepted=1))
        assert entered.headers["content-type"] == JSON_TYPE
        assert (left.status_code, left.json()) == (200, counts(accepted=1))

    async def test_change_of_an_unknown_member_is_ignored(self, service: Running) -> None:
        answer = await service.webhook(webhooks.change(ADA, sent_at=at(0)))

        assert answer.json() == counts(ignored=1)
        assert service.on_list() == set()

    async def test_duplicates_and_older_events_are_ignored(self, service: Running) -> None:
        answers = [
            (await service.webhook(body)).json()
            for body in (enter(seconds=5), enter(seconds=5), webhooks.exit_(ADA, at=at(1)))
        ]

        assert answers == [counts(accepted=1), counts(ignored=1), counts(ignored=1)]

    async def test_each_event_of_a_message_is_stored_or_rejected_separately(self, tmp_path: Path) -> None:
        body = enter()
        events = body["data"]["segment_events"]
        events.append({"id": AUTUMN.id, "slug": AUTUMN.slug, "event": "enter", "enter": webhooks.timestamp(at(1))})
        events.append({"id": AUTUMN.id, "event": "left"})
        events.append("not an event")
        async with running(tmp_path, audiences=(SPRING_BUYERS, AUTUMN)) as service:
            answer = await service.webhook(body)
            await until(lambda: service.on_list() == {ADA} == service.on_list("Lytics Autumn Buyers"))

            assert (answer.status_code, answer.json()) == (200, counts(accepted=2, rejected=2))

    async def test_duplicate_event_within_a_message_is_ignored(self, service: Running) -> None:
        body = enter()
        (event,) = body["data"]["segment_events"]
        body["data"]["segment_events"] = [event, event, {**event, "event": "vanish"}, {**event, "id": "a2"}]

        assert (await service.webhook(body)).json() == counts(accepted=2, ignored=1, rejected=1)

    async def test_exit_with_a_known_lytics_id_needs_no_address(self, service: Running) -> None:
        await service.webhook(enter(user_id="15"))
        await until(lambda: service.on_list() == {ADA})
        answer = await service.webhook(webhooks.exit_(None, at=at(9), user_id="15"))
        await until(lambda: service.on_list() == set())

        assert answer.json() == counts(accepted=1)

    async def test_simultaneous_first_events_of_an_audience_create_one_export(self, service: Running) -> None:
        addresses = {f"person-{number}@example.com" for number in range(30)}
        answers = await asyncio.gather(*(service.webhook(enter(address)) for address in addresses))
        await until(lambda: service.on_list() == addresses)

        assert [answer.json() for answer in answers] == [counts(accepted=1)] * len(addresses)
        assert len(await service.exports()) == 1

    async def test_without_auto_export_an_audience_is_listed_as_unexported(self, tmp_path: Path) -> None:
        async with running(tmp_path, auto_export=False) as service:
            answers = [(await service.webhook(enter(seconds=second))).json() for second in range(3)]
            shown = (await service.admin("/exports")).json()

        assert answers == [counts(ignored=1)] * 3
        assert shown["items"] == []
        assert [
            (audience["audience_id"], audience["audience_slug"], audience["events"]) for audience in shown["unexported"]
        ] == [(SPRING_BUYERS.id, SPRING_BUYERS.slug, 3)]


class TestTokens:
    @pytest.mark.parametrize(
        ("headers", "query"),
        [
            ({"Authorization": WEBHOOK_TOKEN}, ""),
            ({"Authorization": f"Bearer {WEBHOOK_TOKEN}"}, ""),
            ({"Authorization": f"bearer  {WEBHOOK_TOKEN} "}, ""),
            ({"X-API-Key": WEBHOOK_TOKEN}, ""),
            ({"X-API-Key": WEBHOOK_TOKEN, "Authorization": ""}, ""),
            ({}, f"?token={WEBHOOK_TOKEN}"),
            ({}, f"?a=b&token={WEBHOOK_TOKEN}"),
            ({"Authorization": ""}, f"?token={WEBHOOK_TOKEN}"),
            ({"Authorization": "Basic something-else"}, f"?token={WEBHOOK_TOKEN}"),
        ],
    )
    async def test_token_is_accepted_in_each_place(self, service: Running, headers: dict[str, str], query: str) -> None:
        answer = await service.webhook(enter(), headers, url=f"{HOOK}{query}")

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("headers", "query", "reason"),
        [
            ({}, "", "no_token"),
            ({"Authorization": ""}, "", "no_token"),
            ({"Authorization": "Bearer "}, "", "no_token"),
            ({"Authorization": "Bearer wrong-token-of-the-tests"}, "", "unknown_token"),
            ({"Authorization": f"{WEBHOOK_TOKEN}x"}, "", "unknown_token"),
            ({"X-API-Key": ADMIN_TOKEN}, "", "unknown_token"),
            ({}, f"?token={WEBHOOK_TOKEN[:-1]}", "unknown_token"),
        ],
    )
    async def test_without_a_valid_token_nothing_is_stored(
        self, service: Running, headers: dict[str, str], query: str, reason: str
    ) -> None:
        """The answer is 401, says what to correct, and does not repeat the token."""
        answer = await service.webhook(enter(), headers, url=f"{HOOK}{query}")

        assert (answer.status_code, answer.json()["reason"]) == (401, reason)
        assert answer.headers["content-type"] == PROBLEM
        assert "Lytics authorization" in answer.json()["detail"]
        assert "wrong-token" not in answer.text
        assert await service.exports() == []

    async def test_each_configured_token_is_accepted(self, tmp_path: Path) -> None:
        """Operators can therefore rotate tokens. Tokens may have labels."""
        tokens = ["old-token-of-the-tests", "new-token-of-the-tests"]
        async with running(tmp_path, webhook_tokens=f"lytics:{tokens[0]}, {tokens[1]}") as service:
            answers = [(await service.webhook(enter(), {"Authorization": token})).status_code for token in tokens]

        assert answers == [200, 200]


class TestRejectedBodies:
    @pytest.mark.parametrize(
        ("body", "reason", "advice"),
        [
            (b"{", "not_json", "Lytics Template"),
            (b"", "not_json", "Lytics Template"),
            (b"\xff\xfe", "not_json", "Lytics Template"),
            (b"7", "unknown_shape", "Audience Triggers Webhook"),
            (b'{"data": 7}', "unknown_shape", "Audience Triggers Webhook"),
            (b"[7, {}]", "unknown_shape", "[0] is not an object"),
            (b"[[]]", "unknown_shape", "Audience Triggers Webhook"),
            (without(enter(), "data", "segment_events"), "no_segment_events", "tick segment_events"),
            (with_event(event="left"), "unknown_event", "enter, exit, change"),
            (with_event(id=""), "no_audience_id", "id"),
            (with_event(enter="yesterday"), "unreadable_time", "segment_events[0].enter"),
            (enter(None), "no_usable_address", "Export Fields"),
            (enter("invalid"), "no_usable_address", "Export Fields"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_unusable_body_answers_400_with_advice(
        self, service: Running, body: object, reason: str, advice: str
    ) -> None:
        """The status is never 422, which Lytics would retry."""
        answer = await service.webhook(body)

        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["reason"]) == (400, 400, reason)
        assert answer.headers["content-type"] == PROBLEM
        assert problem["title"] == "Bad Request"
        assert advice in problem["detail"]

    async def test_rejected_webhook_is_counted_once(self, service: Running) -> None:
        await service.webhook(b"{")
        await service.webhook(enter(None))
        text = (await service.admin("/metrics")).text

        assert 'lytics_sailthru_webhooks_refused_total{reason="not_json"} 1.0' in text
        assert 'lytics_sailthru_webhooks_refused_total{reason="no_usable_address"} 1.0' in text


class TestMethodsAndPaths:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    @pytest.mark.parametrize("path", [HOOK, f"{HOOK}/"])
    async def test_each_method_and_path_of_lytics_is_accepted(self, service: Running, method: str, path: str) -> None:
        """Lytics' job may use POST, PUT or PATCH, and the URL may end with a slash."""
        answer = await service.webhook(enter(), method=method, url=path)

        assert (answer.status_code, answer.json()) == (200, counts(accepted=1))

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "text/x-any",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/cloudevents+json; charset=utf-16",
            "",
            "?",
        ],
    )
    async def test_any_content_type_is_read_as_json(self, service: Running, content_type: str) -> None:
        body = json.dumps(enter()).encode()
        answer = await service.webhook(body, {**service.token, "Content-Type": content_type})

        assert answer.status_code == 200

    @pytest.mark.parametrize("path", [HOOK, f"{HOOK}/"])
    async def test_get_answers_405_with_the_allowed_methods(self, service: Running, path: str) -> None:
        answer = await service.http.get(path)

        assert answer.status_code == 405
        assert answer.headers["content-type"] == PROBLEM
        assert {method.strip() for method in answer.headers["allow"].split(",")} == {"POST", "PUT", "PATCH"}


class TestDraining:
    async def test_draining_answers_503_with_retry_after(self, service: Running) -> None:
        await service.service.drain()
        answer = await service.webhook(enter())

        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.headers["content-type"] == PROBLEM
        assert "Send it again" in answer.json()["detail"]

    async def test_token_is_checked_before_draining(self, service: Running) -> None:
        await service.service.drain()
        answer = await service.webhook(enter(), {})

        assert answer.status_code == 401
