"""Authentication of webhooks, and the events in their bodies."""

import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.change import AudienceEvent
from app.domain.errors import UnauthenticatedWebhook
from app.domain.rejection import Reason, Rejection
from app.explain.rejections import advice
from app.lytics.timestamps import nanoseconds
from app.lytics.webhook import Reading, WebhookToken, authenticate, read

SPRING = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
LAPSED = "f9e8d7c6b5a493827160f5e4d3c2b1a0"
ADA = "15000000000000000001"
ENTERED = "2026-04-11T17:40:35.104772310Z"
SENT = "2026-04-11T17:40:36.220144871Z"
ARRIVED = nanoseconds("2026-04-11T17:40:37Z")
MINUTE = 60 * 1_000_000_000
TOKENS = (WebhookToken("lytics", "first-token-of-16"), WebhookToken("next", "second-token-of-16"))


def element(**different: object) -> dict[str, object]:
    return {"id": SPRING, "event": "enter", "slug": "spring_buyers", "enter": ENTERED} | different


def message(*elements: object, **different: object) -> dict[str, object]:
    data = {"email": "ada@example.com", "segment_events": list(elements) or [element()]}
    return {"id": ADA, "data": data, "meta": {"object": "user", "timestamp": SENT}} | different


def read_json(document: object, arrived_at_ns: int = ARRIVED) -> Reading:
    return read(json.dumps(document).encode(), arrived_at_ns=arrived_at_ns)


def only(document: object, arrived_at_ns: int = ARRIVED) -> AudienceEvent:
    reading = read_json(document, arrived_at_ns)
    assert reading.rejected == []
    (event,) = reading.events
    return event


def refusal(body: bytes) -> Rejection:
    """Return the first rejection of a body without any event."""
    reading = read(body, arrived_at_ns=ARRIVED)
    assert reading.events == []
    return reading.rejected[0]


def refusal_of(document: object) -> Rejection:
    return refusal(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "query_token", "label"),
    [
        ("first-token-of-16", None, None, "lytics"),
        ("Bearer first-token-of-16", None, None, "lytics"),
        ("bEARER   second-token-of-16 ", None, None, "next"),
        (None, "second-token-of-16", None, "next"),
        (None, None, "first-token-of-16", "lytics"),
        ("Basic abc", "first-token-of-16", None, "lytics"),
        ("", "", "second-token-of-16", "next"),
        ("second-token-of-16", "first-token-of-16", None, "next"),
    ],
)
def test_token_is_accepted_in_three_places(
    authorization: str | None, x_api_key: str | None, query_token: str | None, label: str
) -> None:
    assert authenticate(authorization, x_api_key, query_token, TOKENS) == label


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ((None, None, None), "no_token"),
        (("", " ".strip(), ""), "no_token"),
        (("Bearer", None, None), "no_token"),
        (("Bearer ", None, None), "no_token"),
        (("Bearer wrong", None, None), "unknown_token"),
        (("Token first-token-of-16", None, None), "unknown_token"),
        ((None, "first-token-of-1", None), "unknown_token"),
        ((None, "FIRST-TOKEN-OF-16", None), "unknown_token"),
        ((None, None, "first-token-of-\u0661\u0666"), "unknown_token"),
        ((None, None, "\ud83d"), "unknown_token"),
    ],
)
def test_sender_without_known_token_is_refused(sent: tuple[str | None, str | None, str | None], reason: str) -> None:
    with pytest.raises(UnauthenticatedWebhook) as caught:
        authenticate(*sent, TOKENS)

    assert caught.value.reason == reason


@pytest.mark.parametrize("tokens", [[], [WebhookToken("unset", "")]])
def test_every_sender_is_refused_without_tokens(tokens: list[WebhookToken]) -> None:
    for sent in ("", "Bearer", "anything"):
        with pytest.raises(UnauthenticatedWebhook):
            authenticate(sent, sent, sent, tokens)


def test_every_token_is_compared_even_after_one_has_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counting(sent: bytes, known: bytes) -> bool:
        compared.append(known)
        return compare(sent, known)

    monkeypatch.setattr(hmac, "compare_digest", counting)

    authenticate("first-token-of-16", None, None, TOKENS)

    assert compared == [b"first-token-of-16", b"second-token-of-16"]


def test_token_stays_out_of_its_repr() -> None:
    assert repr(TOKENS[0]) == "WebhookToken(label='lytics')"


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"{", b"\xff\xfe{}", b'{"data": NaN}', b"a=b", b"[" * 100_000, b'{"a":' * 100_000, b'{"a": "\x00"}'],
    ids=lambda body: repr(body[:16]),
)
def test_body_that_is_not_json_is_rejected(body: bytes) -> None:
    assert refusal(body) == Rejection(Reason.NOT_JSON, "The body is not JSON.")


@pytest.mark.parametrize(
    "document",
    [
        7,
        None,
        "text",
        [[]],
        [7, None, "text", [message()]],
        {},
        {"data": None},
        {"data": []},
        message(id="not-digits"),
        message(id=True),
        message(id=1.5),
        message(id=-1),
        message(id="1" * 21),
        message(id=["1"]),
        message(data="text"),
    ],
)
def test_unknown_shape_is_rejected(document: object) -> None:
    assert refusal_of(document).reason == "unknown_shape"


@pytest.mark.parametrize("events", [None, [], {}, "enter"])
def test_segment_events_must_be_a_list_with_elements(events: object) -> None:
    rejection = refusal_of({"id": ADA, "data": {"segment_events": events}})

    assert rejection.reason == "no_segment_events"
    assert "under Export Fields, tick segment_events" in advice(rejection.reason, rejection.happened)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (ADA, ADA),
        (15000000000000000001, ADA),
        (0, "0"),
        (None, None),
        ("", None),
    ],
)
def test_user_id_is_digits_or_none(sent: object, expected: str | None) -> None:
    assert only(message(id=sent)).lytics_id == expected


@pytest.mark.parametrize("meta", [None, [], "user", 7, {}, {"timestamp": None}, {"subscription_id": 7}])
def test_arrival_replaces_missing_message_time(meta: object) -> None:
    event = only(message(meta=meta))

    assert (event.message_at_ns, event.moved_at_ns) == (ARRIVED, nanoseconds(ENTERED))
    assert not event.clock_corrected


@pytest.mark.parametrize("kind", ["enter", "exit"])
def test_message_time_replaces_missing_event_time(kind: str) -> None:
    event = only(message({"id": SPRING, "event": kind, "slug": "spring_buyers"}))

    assert event.moved_at_ns == event.message_at_ns == nanoseconds(SENT)


def test_exit_uses_exit_time_and_enter_uses_enter_time() -> None:
    times = {"enter": "2026-04-01T00:00:00Z", "exit": "2026-04-02T00:00:00Z"}

    for kind, time in times.items():
        assert only(message(element(event=kind, **times))).moved_at_ns == nanoseconds(time)


def test_time_of_other_kind_is_ignored() -> None:
    assert only(message(element(exit="never"))).moved_at_ns == nanoseconds(ENTERED)
    assert only(message(element(event="change", enter="never"))).moved_at_ns is None


@pytest.mark.parametrize(
    ("ahead_ns", "is_corrected"), [(0, False), (10 * MINUTE, False), (10 * MINUTE + 1, True), (10**18, True)]
)
def test_event_time_more_than_ten_minutes_ahead_is_corrected(ahead_ns: int, is_corrected: bool) -> None:
    arrived_at_ns = nanoseconds(ENTERED) - ahead_ns

    event = only(message(element(), meta={}), arrived_at_ns)

    assert event.clock_corrected is is_corrected
    assert event.moved_at_ns == (arrived_at_ns if is_corrected else nanoseconds(ENTERED))


def test_message_time_too_far_ahead_is_corrected() -> None:
    event = only(message(meta={"timestamp": "2099-01-01T00:00:00Z"}))

    assert event.clock_corrected
    assert (event.message_at_ns, event.moved_at_ns) == (ARRIVED, nanoseconds(ENTERED))


BAD = [
    ("text", "unreadable_event", ""),
    (None, "unreadable_event", ""),
    (element(event="joined"), "unknown_event", ".event"),
    (element(event="ENTER"), "unknown_event", ".event"),
    (element(event=None), "unknown_event", ".event"),
    (element(event={"enter": 1}), "unknown_event", ".event"),
    (element(id=None), "no_audience_id", ".id"),
    (element(id=""), "no_audience_id", ".id"),
    (element(id=7), "no_audience_id", ".id"),
    (element(id="a" * 129), "no_audience_id", ".id"),
    (element(id="a\x00b"), "no_audience_id", ".id"),
    (element(enter="yesterday"), "unreadable_time", ".enter"),
    (element(enter=""), "unreadable_time", ".enter"),
    (element(enter=1775929235), "unreadable_time", ".enter"),
    (element(enter="0001-01-01T00:00:00Z"), "unreadable_time", ".enter"),
    (element(enter="2251-01-01T00:00:00Z"), "unreadable_time", ".enter"),
    (element(event="exit", exit="2026-02-30T00:00:00Z"), "unreadable_time", ".exit"),
]


@pytest.mark.parametrize(("bad", "reason", "path"), BAD)
def test_only_bad_event_is_rejected(bad: object, reason: str, path: str) -> None:
    reading = read_json(message(element(), bad, element(id=LAPSED)))

    assert [event.audience_id for event in reading.events] == [SPRING, LAPSED]
    assert [rejection.reason for rejection in reading.rejected] == [reason]
    assert f"data.segment_events[1]{path} " in reading.rejected[0].happened


@pytest.mark.parametrize(("bad", "reason", "path"), BAD)
def test_message_of_bad_events_is_rejected_with_the_first_reason(bad: object, reason: str, path: str) -> None:
    rejection = refusal_of(message(bad, "also bad"))

    assert rejection.reason == reason
    assert rejection.happened.startswith(f"data.segment_events[0]{path} ")


def test_unreadable_message_time_is_rejected() -> None:
    rejection = refusal_of(message(meta={"timestamp": "soon"}))

    assert rejection.reason == "unreadable_time"
    assert rejection.happened.startswith("meta.timestamp ")


@pytest.mark.parametrize("slug", [None, 7, "a" * 256, "a\x00b"])
def test_unusable_slug_is_dropped(slug: object) -> None:
    assert only(message(element(slug=slug))).audience_slug == ""


def test_audience_id_of_128_characters_is_kept() -> None:
    assert only(message(element(id="a" * 128))).audience_id == "a" * 128


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([ENTERED, SPRING, "enter"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "data", "meta", "timestamp", "segment_events", "event", "enter", "slug"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60))
def test_any_bytes_can_be_read(body: bytes) -> None:
    assert read(body, arrived_at_ns=ARRIVED).events == []


@given(JSON_VALUES, st.lists(JSON_VALUES, max_size=3), JSON_VALUES)
def test_any_json_yields_events_or_rejections(data: Any, events: list[Any], anything: Any) -> None:
    """Only an empty array yields neither."""
    for document in (
        data,
        {"data": data, "meta": anything, "id": anything},
        {"data": {"segment_events": events}, "meta": anything},
        {"data": {"segment_events": events}, "specversion": anything, "time": data},
        {"data": {"segment_events": [element(id=anything), element(enter=anything), element(event=anything)]}},
        [data, message(), anything],
    ):
        reading = read_json(document)

        assert reading.events or reading.rejected or document == []


@given(st.text(alphabet="xyz\u00e9", min_size=4, max_size=20))
def test_no_rejection_quotes_the_body(value: str) -> None:
    for document in (
        value,
        {value: value},
        [value],
        message(id=value),
        message(element(event=value)),
        message(element(id=[value])),
        message(element(enter=value)),
        message(meta={"timestamp": value}),
        message(meta=None, specversion=value, time=value),
    ):
        rejection = refusal_of(document)
        assert value not in advice(rejection.reason, rejection.happened)
