"""Every format of a webhook, from the endpoint to the list: messages, CloudEvents, arrays and unusual values."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from tests.service import API_KEY, LIST, Running, running, until
from tests.web.webhook.messages import ADA, counts, enter

COMPOSED = Path(__file__).parents[2] / "fixtures" / "lytics" / "composed"
LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers")
SAMPLE, BOB = "ada.sample@example.com", "bob.sample@example.com"
# The answer to each fixture, and the members of the lists afterwards.
FIXTURES: Mapping[str, tuple[dict[str, int] | str, set[tuple[str, str]]]] = {
    "enter_full": (counts(accepted=1), {(LIST, SAMPLE)}),
    "enter_selected_fields": (counts(accepted=1), {(LIST, SAMPLE)}),
    "include_segs": (counts(accepted=1), {(LIST, SAMPLE)}),
    "cloudevents_enter": (counts(accepted=1), {(LIST, SAMPLE)}),
    "exit_selected_fields": (counts(accepted=1), set()),
    "field_change": (counts(ignored=1), set()),
    "v1api_multi_events": (counts(accepted=2), {("Lytics Lapsed Buyers", SAMPLE)}),
    "batch_inferred": (counts(accepted=2), {(LIST, SAMPLE)}),
    "missing_email": ("no_usable_address", set()),
    "missing_segment_events": ("no_segment_events", set()),
}


def cloud_event(email: str) -> dict[str, Any]:
    body = enter(email)
    time = body.pop("meta")["timestamp"]
    return body | {"specversion": "1.0", "source": "urn:job", "type": "com.lytics.audience.user.event", "time": time}


@pytest.mark.parametrize("name", sorted(path.stem for path in COMPOSED.glob("webhook_*.json")))
async def test_every_fixture_has_its_answer_and_members(tmp_path: Path, name: str) -> None:
    expected, joined = FIXTURES[name.removeprefix("webhook_")]
    lists = (LIST, "Lytics Lapsed Buyers")
    async with running(tmp_path, audiences=(SPRING_BUYERS, LAPSED)) as service:
        answer = await service.webhook((COMPOSED / f"{name}.json").read_bytes())
        await until(lambda: {(name, member) for name in lists for member in service.on_list(name)} == joined)

    if isinstance(expected, str):
        assert (answer.status_code, answer.json()["reason"]) == (400, expected)
    else:
        assert (answer.status_code, answer.json()) == (200, expected)


@pytest.mark.parametrize("content_type", ["application/json", "application/cloudevents+json; charset=utf-8"])
async def test_cloud_event_is_delivered(service: Running, content_type: str) -> None:
    body = json.dumps(cloud_event(ADA)).encode()
    answer = await service.webhook(body, {**service.token, "Content-Type": content_type})
    await until(lambda: service.on_list() == {ADA})

    assert (answer.status_code, answer.json()) == (200, counts(accepted=1))


async def test_good_messages_of_an_array_are_delivered(service: Running) -> None:
    """An array may mix both formats. The service uses the first valid address of a message."""
    several = enter()
    several["data"]["email"] = [None, "invalid", f" {ADA.upper()} ", "other@example.com"]
    answer = await service.webhook([several, 7, cloud_event(BOB), enter(None), []])
    await until(lambda: service.on_list() == {ADA, BOB})

    assert (answer.status_code, answer.json()) == (200, counts(accepted=2, rejected=3))


async def test_array_larger_than_lytics_batches_is_stored(service: Running) -> None:
    addresses = [f"p{number}@example.com" for number in range(1500)]
    first = await service.webhook([enter(address) for address in addresses[:1000]])
    both = await service.webhook([enter(address) for address in addresses])

    assert first.json() == counts(accepted=1000)
    assert both.json() == counts(accepted=500, ignored=1000)


async def test_empty_array_is_accepted(service: Running) -> None:
    answer = await service.webhook([])

    assert (answer.status_code, answer.json()) == (200, counts())
    assert await service.exports() == []


async def test_array_for_an_unexported_audience_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, auto_export=False) as service:
        answer = await service.webhook([enter(f"p{number}@example.com") for number in range(1000)])
        (unexported,) = (await service.admin("/exports")).json()["unexported"]

    assert answer.json() == counts(ignored=1000)
    assert unexported["events"] == 1000


DEEP: Any = "deep"
for _ in range(150):
    DEEP = {"in": DEEP}


@pytest.mark.parametrize(
    ("value", "confirmed"),
    [
        ('"Ada"', "Ada"),
        ('"A\\u0000da"', "Ada"),
        ('"Ada\\ud83d"', "Ada"),
        ('"\\ude00\\ud83d"', None),
        ("1e999", None),
        ("9" * 5000, None),
        ("9" * 320, None),
        ("18446744073709551616", 2**64),
        ('["A\\u0000da", -1e999, {"\\ud83d": "Ad\\ud83da"}]', ["Ada", None, {"": "Ada"}]),
        ('"\U0001f600 Zo\u00eb \u0141\u00f3d\u017a"', "\U0001f600 Zo\u00eb \u0141\u00f3d\u017a"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
async def test_value_that_cannot_be_stored_affects_only_its_own_field(
    service: Running, value: str, confirmed: object
) -> None:
    """The storable part of the value is delivered. Other members in the same transaction are not affected."""
    await service.service.exports.start(
        SPRING_BUYERS.id, audience_slug="", account="default", fields={"first_name": "first_name"}
    )
    service.service.exports_changed()
    others = {f"p{number}@example.com" for number in range(20)}
    odd = json.dumps([enter(fields={"first_name": "(odd)"}), enter("last@example.com")]).replace('"(odd)"', value)
    answers = await asyncio.gather(
        service.webhook(odd.encode()), *(service.webhook(enter(address)) for address in others)
    )
    await until(lambda: service.on_list(LIST) == {ADA, "last@example.com", *others})
    profile = service.sailthru.account(API_KEY).find("email", ADA)

    assert [answer.status_code for answer in answers] == [200] * 21
    assert profile is not None
    assert profile.vars.get("first_name") == confirmed


async def test_deeply_nested_value_is_cut_off(service: Running) -> None:
    """A deeper value could overflow the stack."""
    await service.service.exports.start(SPRING_BUYERS.id, audience_slug="", account="default", fields={"tree": "tree"})
    service.service.exports_changed()
    answer = await service.webhook(enter(fields={"tree": DEEP}))
    await until(lambda: service.on_list() == {ADA})
    profile = service.sailthru.account(API_KEY).find("email", ADA)

    assert answer.json() == counts(accepted=1)
    assert profile is not None
    assert json.dumps(profile.vars["tree"]).count("{") == 32
