"""The formats of Lytics' messages: each fixture exactly, CloudEvents, and arrays of all formats."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.change import AudienceEvent, Kind
from app.domain.rejection import Rejection
from app.explain.rejections import advice
from app.lytics.timestamps import nanoseconds
from app.lytics.webhook import Reading, read
from tests.lytics.test_webhook import ADA, ARRIVED, ENTERED, LAPSED, SENT, SPRING, element, message, only, read_json

COMPOSED = Path(__file__).parents[1] / "fixtures" / "lytics" / "composed"
BOB = "15000000000000000003"
SCHEDULED = "2099-03-18T06:12:36.829070108Z"


def event(
    kind: Kind, moved_at: str | None, message_at: str | None, item: int | None = None, **different: Any
) -> AudienceEvent:
    """Return an event without its profile."""
    values: dict[str, Any] = {
        "kind": kind,
        "audience_id": SPRING,
        "audience_slug": "spring_buyers",
        "lytics_id": ADA,
        "moved_at_ns": None if moved_at is None else nanoseconds(moved_at),
        "message_at_ns": ARRIVED if message_at is None else nanoseconds(message_at),
        "message_on_arrival": message_at is None,
        "profile": {},
        "item": item,
    }
    return AudienceEvent(**values | different)


FIXTURES: dict[str, list[AudienceEvent] | str] = {
    "enter_full": [event(Kind.ENTER, ENTERED, SENT)],
    "enter_selected_fields": [event(Kind.ENTER, ENTERED, SENT)],
    "include_segs": [event(Kind.ENTER, ENTERED, SENT)],
    "cloudevents_enter": [event(Kind.ENTER, ENTERED, SENT)],
    "exit_selected_fields": [event(Kind.EXIT, "2026-04-20T08:01:12.000451Z", "2026-04-20T08:01:13.559102348Z")],
    "field_change": [event(Kind.CHANGE, None, "2026-04-12T10:00:00.118276005Z")],
    "missing_email": [event(Kind.ENTER, ENTERED, "2026-04-11T17:41:00.000000001Z", lytics_id="15000000000000000002")],
    "v1api_multi_events": [
        event(Kind.EXIT, ENTERED, None, lytics_id=None),
        event(Kind.ENTER, ENTERED, None, lytics_id=None, audience_id=LAPSED, audience_slug="lapsed_buyers"),
    ],
    "batch_inferred": [
        event(Kind.ENTER, ENTERED, SENT, 0),
        event(Kind.EXIT, "2026-04-11T17:40:34Z", "2026-04-11T17:40:36.220144872Z", 1, lytics_id=BOB),
    ],
    "missing_segment_events": "no_segment_events",
}


def profiles(document: Any) -> list[dict[str, object]]:
    """Return the profile of each event of a body, in order."""
    messages = document if isinstance(document, list) else [document]
    return [
        {name: value for name, value in message["data"].items() if name != "segment_events"}
        for message in messages
        for _ in message["data"]["segment_events"]
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in COMPOSED.glob("webhook_*.json")))
def test_fixture_is_read_exactly(name: str) -> None:
    """Compare all events with the whole profile and exact times, or the reason of the rejection."""
    body = (COMPOSED / f"{name}.json").read_bytes()
    expected = FIXTURES[name.removeprefix("webhook_")]
    last = nanoseconds("2026-04-20T08:01:13.559102348Z")
    reading = read(body, arrived_at_ns=ARRIVED if "v1api" in name else last)

    if isinstance(expected, str):
        assert [rejection.reason for rejection in reading.rejected] == [expected]
        assert reading.events == []
    else:
        sent = zip(expected, profiles(json.loads(body)), strict=True)
        assert reading == Reading([event._replace(profile=profile) for event, profile in sent], [])


@pytest.mark.parametrize("name", ["v2_segment_get", "error_401_expired_token", "v1_schema_user"])
def test_other_json_of_lytics_is_rejected(name: str) -> None:
    reading = read((COMPOSED / f"{name}.json").read_bytes(), arrived_at_ns=ARRIVED)

    assert reading.events == []
    assert reading.rejected[0].reason in {"unknown_shape", "no_segment_events"}


def cloud_event(*elements: object, **different: object) -> dict[str, object]:
    body = message(*elements)
    del body["meta"]
    return (
        body
        | {"specversion": "1.0", "source": "urn:job", "type": "com.lytics.audience.user.event", "time": SENT}
        | different
    )


def test_time_of_cloud_event_is_message_time() -> None:
    """It also replaces a missing event time."""
    change = only(cloud_event(element(event="change")))
    enter = only(cloud_event({"id": SPRING, "event": "enter"}))

    assert (change.moved_at_ns, change.message_at_ns) == (None, nanoseconds(SENT))
    assert enter.moved_at_ns == enter.message_at_ns == nanoseconds(SENT)


@pytest.mark.parametrize(("time", "is_corrected"), [(None, False), ("2099-01-01T00:00:00Z", True)])
def test_arrival_replaces_missing_or_future_time_of_cloud_event(time: str | None, is_corrected: bool) -> None:
    read_event = only(cloud_event(time=time))

    assert (read_event.message_at_ns, read_event.clock_corrected) == (ARRIVED, is_corrected)


def test_unreadable_time_of_cloud_event_is_rejected() -> None:
    (rejection,) = read_json(cloud_event(time="soon")).rejected

    assert (rejection.reason, rejection.happened[:5]) == ("unreadable_time", "time ")


def test_time_of_meta_goes_before_time_of_cloud_event() -> None:
    """In other formats `time` is ignored: it may be any field."""
    later = "2026-04-11T17:40:36.9Z"

    assert only(cloud_event(time=later, meta={"timestamp": SENT})).message_at_ns == nanoseconds(SENT)
    assert only(message(time="soon", meta={})).message_at_ns == ARRIVED


def test_array_may_mix_all_formats() -> None:
    """Events keep their order and carry the index of their message."""
    old = message(element(id=LAPSED), element())
    del old["id"], old["meta"]
    reading = read_json([cloud_event(), old, message(element(event="exit", exit=SENT))])

    assert [(event.item, event.kind, event.audience_id, event.lytics_id) for event in reading.events] == [
        (0, Kind.ENTER, SPRING, ADA),
        (1, Kind.ENTER, LAPSED, None),
        (1, Kind.ENTER, SPRING, None),
        (2, Kind.EXIT, SPRING, ADA),
    ]
    assert reading.rejected == []


def test_only_bad_messages_of_array_are_rejected() -> None:
    """Each rejection carries the index of its message."""
    reading = read_json([7, message(), {"data": {}}, message(element(event="left"), element()), [message()]])

    assert [event.item for event in reading.events] == [1, 3]
    assert [(rejection.item, rejection.reason, rejection.happened) for rejection in reading.rejected] == [
        (0, "unknown_shape", "[0] is not an object."),
        (2, "no_segment_events", "[2].data.segment_events is missing or empty."),
        (3, "unknown_event", "[3].data.segment_events[0].event is none of enter, exit, change."),
        (4, "unknown_shape", "[4] is not an object."),
    ]


def test_empty_array_is_no_error() -> None:
    assert read_json([]) == Reading([], [])


@pytest.mark.parametrize("size", [1000, 5000])
def test_array_may_be_longer_than_a_batch_of_lytics(size: int) -> None:
    """Lytics sends 1,000 at most. Rejecting a longer one would lose all its messages."""
    reading = read_json([message()] * size)

    assert len(reading.events) == size


@pytest.mark.parametrize(
    "document",
    [
        [message()] * 10_001,
        [7] * 1_000_000,
        [message(*[element()] * 9_000), message(*[7] * 9_000)],
        message(*[element()] * 10_001),
    ],
    ids=["messages", "rubbish", "both", "elements"],
)
def test_more_than_ten_thousand_events_are_rejected_as_a_whole(document: object) -> None:
    """Reading them would delay all other requests."""
    reading = read_json(document)

    assert reading.events == []
    assert [rejection.reason for rejection in reading.rejected] == ["too_large"]
    assert "lower Batch Size" in advice(reading.rejected[0].reason)


@pytest.mark.parametrize(
    "name",
    [b"\\ud83d", b"\\ude00\\ud83d", b"\xff", b"\xed\xa0\xbd", b"Ad\xe9", b"\\u0000", b"x" * 1_000_000],
    ids=lambda name: repr(name[:9]),
)
def test_broken_text_rejects_no_message(name: bytes) -> None:
    """One message holds half an emoji or bytes of another encoding. All messages are read."""
    good = json.dumps(message()).encode()
    bad = good.replace(b'"email"', b'"name": "' + name + b'", "na' + name + b'me": 1, "email"')
    reading = read(b"[" + good + b"," + bad + b"]", arrived_at_ns=ARRIVED)

    assert [event.profile["email"] for event in reading.events] == ["ada@example.com"] * 2
    assert reading.rejected == []


@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 300_000, "1e999", "-1E+99999", "0." + "9" * 5000, "9" * 400]
)
def test_huge_number_is_read(number: str) -> None:
    body = json.dumps([message(), message()]).replace('"email"', f'"score": {number}, "email"', 1)

    assert len(read(body.encode(), arrived_at_ns=ARRIVED).events) == 2


def test_last_value_of_repeated_name_counts() -> None:
    body = json.dumps(message()).replace('"event": "enter"', '"event": "exit", "event": "enter"')

    assert [event.kind for event in read(body.encode(), arrived_at_ns=ARRIVED).events] == [Kind.ENTER]


def test_byte_order_mark_is_ignored() -> None:
    assert len(read(b"\xef\xbb\xbf" + json.dumps(message()).encode(), arrived_at_ns=ARRIVED).events) == 1


def test_rejection_names_the_option_to_tick() -> None:
    (rejection,) = read_json({"id": ADA, "data": {"email": "ada@example.com"}}).rejected

    assert isinstance(rejection, Rejection)
    assert advice(rejection.reason, rejection.happened).startswith(
        "data.segment_events is missing or empty. In the Lytics job, under Export Fields"
    )
