"""GET /rejected-events: each rejected event is recorded and explained, without any value of a profile."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.explain.codes import explain
from app.sandbox.lytics import webhooks
from app.web.api import rejected_events
from tests.service import HOOK, Running, running
from tests.web.webhook.messages import ADA, NOW, counts, enter, with_event, without

VALUE = "Zyzzyva-of-Sampleton"


async def recorded(service: Running, query: str = "") -> list[dict[str, Any]]:
    """Return the rejected events, the newest first."""
    answer = await service.admin(f"/rejected-events{query}")
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_rejected_event_has_the_text_of_the_answer_and_a_sketch_of_the_body(service: Running) -> None:
    body = json.dumps(without(enter(fields={"city": VALUE}), "data", "segment_events")).encode()
    answer = await service.webhook(body)
    (item,) = await recorded(service)
    explanation = explain("no_segment_events")

    assert answer.status_code == 400
    assert item["reason"] == answer.json()["reason"] == "no_segment_events"
    assert f"{item['happened']} {item['next_step']}" == answer.json()["detail"]
    assert (item["to_whom"], item["next_step"]) == (explanation.to_whom, explanation.next_step)
    assert "tick segment_events" in item["next_step"]
    assert item["body_bytes"] == len(body)
    assert json.loads(item["body"])["data"] == {"email": "(string)", "city": "(string)"}
    assert abs((NOW - NOW.fromisoformat(item["at"])).total_seconds()) < 3600


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": "15", "da', "not_json"),
        (b"email=ada%40example.com", "not_json"),
        (b"7", "unknown_shape"),
        (with_event(event=VALUE), "unknown_event"),
        (with_event(id=None), "no_audience_id"),
        (with_event(enter="soon"), "unreadable_time"),
        ({"data": {"segment_events": [7]}}, "unreadable_event"),
        (enter(None), "no_usable_address"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_400_is_recorded(service: Running, body: object, reason: str) -> None:
    answer = await service.webhook(body)

    assert answer.status_code == 400
    assert [item["reason"] for item in await recorded(service)] == [reason]


async def test_each_bad_message_of_an_array_is_recorded(service: Running) -> None:
    """The order is kept, and each reason is recorded once per message. Good messages are stored."""
    twice_bad = with_event(event="left")
    twice_bad["data"]["segment_events"] *= 2
    answer = await service.webhook([enter(None), 7, enter(), twice_bad])
    items = await recorded(service)

    assert (answer.status_code, answer.json()) == (200, counts(accepted=1, rejected=4))
    assert [(item["reason"], item["body"][:4]) for item in reversed(items)] == [
        ("no_usable_address", "[0] "),
        ("unknown_shape", "[1] "),
        ("unknown_event", "[3] "),
    ]
    assert items[-1]["happened"] == "[0].data.email holds no usable e-mail address."


async def test_array_without_a_good_message_answers_400(service: Running) -> None:
    answer = await service.webhook([7, enter(None)])

    assert (answer.status_code, answer.json()["reason"]) == (400, "unknown_shape")
    assert len(await recorded(service)) == 2


async def test_first_fifty_rejections_of_a_request_are_recorded_and_all_are_counted(service: Running) -> None:
    await service.webhook([enter(), *[enter(None)] * 999])
    metrics = (await service.admin("/metrics")).text

    assert len(await recorded(service)) == 50
    assert 'lytics_sailthru_webhooks_refused_total{reason="no_usable_address"} 999.0' in metrics
    assert 'lytics_sailthru_group_commit_size_count{what="reject"} 1.0' in metrics


async def test_body_with_too_many_events_answers_413(service: Running) -> None:
    answer = await service.webhook([enter(None)] * 10_001)
    (item,) = await recorded(service)

    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    assert (item["reason"], item["body"]) == ("too_large", '"(list of 10001)"')


async def test_request_without_a_valid_token_is_not_recorded(service: Running) -> None:
    await service.webhook(b"{", {"Authorization": "wrong-token-of-the-tests"})
    await service.http.get(HOOK)

    assert await recorded(service) == []


async def test_pages_follow_by_cursor_newest_first(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected_events, "PAGE_SIZE", 2)
    for body in (b"{", b"7", b"[[]]"):
        await service.webhook(body)
    first = (await service.admin("/rejected-events")).json()
    second = (await service.admin(f"/rejected-events?cursor={first['next']}")).json()

    assert [item["body"] for item in first["items"]] == ['[0] "(list of 0)"', '"(number)"']
    assert [item["body"] for item in second["items"]] == ["{"]
    assert second["next"] is None


@pytest.mark.parametrize("cursor", ["x", "", "-1", "9" * 19])
async def test_invalid_cursor_answers_422(service: Running, cursor: str) -> None:
    answer = await service.admin(f"/rejected-events?cursor={cursor}")

    assert answer.status_code == 422


async def test_list_needs_an_admin_token(service: Running) -> None:
    answer = await service.http.get("/rejected-events")

    assert answer.status_code == 401


async def test_rejected_event_stores_no_address_or_value_of_a_profile(tmp_path: Path) -> None:
    whole = json.dumps(webhooks.enter(ADA, at=NOW, fields={"city": VALUE, "tags": [VALUE], "by": {VALUE: VALUE}}))
    event = '"event": "enter"'
    bodies = [
        whole.replace("segment_events", "segments"),
        whole.replace(event, f'"event": "{VALUE}"'),
        whole.replace(event, f'"event": "left", "note": "{VALUE}"'),
        whole.replace('"email"', '"mail"'),
        "[" + whole.replace("data", "payload") + "," + whole.replace(event, '"event": 7') + "]",
        whole.replace('"city": ', '"city": "'),
        whole.replace(", ", ": "),
        f"city={VALUE}&email={ADA}",
        *(whole[:end] for end in range(len(whole) // 4, len(whole), 9)),
    ]
    async with running(tmp_path) as service:
        answers = [(await service.webhook(body.encode())).status_code for body in bodies]
        items = await recorded(service)
    stored = stored_bytes(tmp_path)

    assert set(answers) == {400}
    assert len(items) == len(bodies) + 1
    assert VALUE.encode() not in stored
    assert ADA.encode() not in stored


async def test_description_has_every_format_of_a_webhook(service: Running) -> None:
    described = (await service.admin("/openapi.json")).json()["paths"]
    body = described[HOOK]["post"]["requestBody"]["content"]
    forms = body["application/json"]["schema"]["anyOf"]

    assert set(body) == {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "*/*",
    }
    assert [form["title"] for form in forms] == ["Message", "CloudEvent", "Batch"]
    assert set(described["/rejected-events"]["get"]["responses"]) == {"200", "401", "422", "503"}
