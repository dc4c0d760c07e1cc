"""Authenticates webhooks of Lytics and reads their events. No I/O.

Formats: https://www.contentstack.com/docs/lytics/webhooks
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from app.domain.change import AudienceEvent, Kind
from app.domain.errors import UnauthenticatedWebhook
from app.domain.rejection import Reason, Rejection
from app.explain.rejections import EXPLANATIONS
from app.lytics.timestamps import nanoseconds
from app.lytics.wire import Message, parse_json

CLOCK_TOLERANCE_NS = 600 * 1_000_000_000
LONGEST_ID = 128
LONGEST_LABEL = 255
# Ten times Lytics' largest batch. A body of 16 MB could hold millions, which would delay all other requests.
MOST_EVENTS = 10_000
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class WebhookToken:
    """A secret that Lytics sends with each webhook, and its label in logs and settings."""

    label: str
    token: str = field(repr=False)


class Reading(NamedTuple):
    """The accepted events of a body, and a rejection for each other one, both in the order of the body."""

    events: list[AudienceEvent]
    rejected: list[Rejection]


def authenticate(
    authorization: str | None, x_api_key: str | None, query_token: str | None, tokens: Collection[WebhookToken]
) -> str:
    """Return the label of the sender's token: from `Authorization` (`Bearer` is optional), `X-API-Key` or the URL.

    The comparison takes the same time for right and wrong tokens. If `tokens` is empty, every sender is refused.

    Raises:
        UnauthenticatedWebhook: the sender has no token (`no_token`), or an unknown one (`unknown_token`).
    """
    candidates = [text for text in (_without_scheme(authorization), x_api_key, query_token) if text]
    if not candidates:
        raise UnauthenticatedWebhook(Reason.NO_TOKEN)
    label = None
    for text in candidates:
        for known in tokens:
            is_equal = hmac.compare_digest(_bytes(text), _bytes(known.token))
            label = known.label if is_equal and label is None else label
    if label is None:
        raise UnauthenticatedWebhook(Reason.UNKNOWN_TOKEN)
    return label


def read(body: bytes, *, arrived_at_ns: int) -> Reading:
    """Return the events of a webhook body: one message, or an array of messages in any mix of formats.

    The formats are the default one, the older one, and CloudEvents. Each message, and each element of its
    `segment_events`, is accepted or rejected independently. An empty array is valid and holds no event. Lytics sends at
    most 1,000 messages. Longer arrays are read too, but a body of more than 10,000 events is rejected as a whole.

    Args:
        body: as received, already authenticated.
        arrived_at_ns: replaces each time that is missing or more than ten minutes later.
    """
    reading = Reading([], [])
    try:
        document = parse_json(body)
    except ValueError:
        reading.rejected.append(Rejection(Reason.NOT_JSON, EXPLANATIONS[Reason.NOT_JSON].happened))
        return reading
    if not isinstance(document, list):
        _read_message(document, None, arrived_at_ns, reading)
        return reading
    for item, message in enumerate(document):
        _read_message(message, item, arrived_at_ns, reading)
        if len(reading.events) + len(reading.rejected) > MOST_EVENTS:
            return Reading([], [Rejection(Reason.TOO_LARGE, f"The body has more than {MOST_EVENTS:,} events.")])
    return reading


class _Unreadable(Exception):
    """A message, or one element of it, cannot be accepted."""

    def __init__(self, reason: Reason, path: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.path = path


class _Moment(NamedTuple):
    """A time in nanoseconds.

    Args:
        is_on_arrival: this is the time of arrival by our clock.
        is_corrected: the time of arrival replaces a time that was too far ahead.
    """

    at_ns: int
    is_on_arrival: bool = False
    is_corrected: bool = False


class _Envelope(NamedTuple):
    """The parts of a message that apply to all its events."""

    lytics_id: str | None
    profile: dict[str, Any]
    sent: _Moment
    arrived_at_ns: int
    item: int | None


def _read_message(document: object, item: int | None, arrived_at_ns: int, reading: Reading) -> None:
    try:
        envelope, elements = _open(document, item, arrived_at_ns)
    except _Unreadable as error:
        reading.rejected.append(_rejection(error, item))
        return
    for index, element in enumerate(elements):
        try:
            reading.events.append(_read_event(element, envelope))
        except _Unreadable as error:
            error.path = f"data.segment_events[{index}]{error.path}"
            reading.rejected.append(_rejection(error, item))


def _open(document: object, item: int | None, arrived_at_ns: int) -> tuple[_Envelope, list[Any]]:
    """Return the envelope of a message and the elements of its `segment_events`."""
    if not isinstance(document, dict):
        raise _Unreadable(Reason.UNKNOWN_SHAPE, "", "is not an object.")
    try:
        message = Message.model_validate(document)
    except ValidationError as error:
        name = str(error.errors(include_input=False)[0]["loc"][0])
        raise _Unreadable(Reason.UNKNOWN_SHAPE, name, "is missing or not as expected.") from None
    profile = message.data
    elements = profile.pop("segment_events", None)
    if not isinstance(elements, list) or not elements:
        raise _Unreadable(Reason.NO_SEGMENT_EVENTS, "data.segment_events", "is missing or empty.")
    if len(elements) > MOST_EVENTS:
        raise _Unreadable(Reason.TOO_LARGE, "data.segment_events", f"has more than {MOST_EVENTS:,} elements.")
    time, path = message.meta.get("timestamp") if isinstance(message.meta, dict) else None, "meta.timestamp"
    if time is None and message.specversion is not None:
        time, path = message.time, "time"
    sent = _moment(time, path, arrived_at_ns)
    return _Envelope(message.id, profile, sent, arrived_at_ns, item), elements


def _read_event(element: object, envelope: _Envelope) -> AudienceEvent:
    if not isinstance(element, dict):
        raise _Unreadable(Reason.UNREADABLE_EVENT, "", "is not an object.")
    kind = _KINDS.get(_label(element.get("event"), LONGEST_LABEL))
    if kind is None:
        raise _Unreadable(Reason.UNKNOWN_EVENT, ".event", "is none of enter, exit, change.")
    audience_id = _label(element.get("id"), LONGEST_ID)
    if not audience_id:
        raise _Unreadable(Reason.NO_AUDIENCE_ID, ".id", "is not an audience's id.")
    sent, moved = envelope.sent, envelope.sent
    # Only the time of the event's own kind counts: an enter may carry an `exit` that is scheduled for the year 2099.
    own_time = None if kind is Kind.CHANGE else element.get(kind.value)
    if own_time is not None:
        moved = _moment(own_time, f".{kind.value}", envelope.arrived_at_ns)
    return AudienceEvent(
        kind=kind,
        audience_id=audience_id,
        audience_slug=_label(element.get("slug"), LONGEST_LABEL),
        lytics_id=envelope.lytics_id,
        moved_at_ns=None if kind is Kind.CHANGE else moved.at_ns,
        message_at_ns=sent.at_ns,
        profile=envelope.profile,
        moved_on_arrival=moved.is_on_arrival,
        message_on_arrival=sent.is_on_arrival,
        clock_corrected=sent.is_corrected or moved.is_corrected,
        item=envelope.item,
    )


def _moment(value: object, path: str, arrived_at_ns: int) -> _Moment:
    if value is None:
        return _Moment(arrived_at_ns, is_on_arrival=True)
    try:
        moment = nanoseconds(value if isinstance(value, str) else "")
    except ValueError as error:
        raise _Unreadable(Reason.UNREADABLE_TIME, path, f"is not a usable time: {error}") from None
    if moment > arrived_at_ns + CLOCK_TOLERANCE_NS:
        return _Moment(arrived_at_ns, is_on_arrival=True, is_corrected=True)
    return _Moment(moment)


def _rejection(error: _Unreadable, item: int | None) -> Rejection:
    path = error.path if item is None else f"[{item}].{error.path}".rstrip(".")
    return Rejection(error.reason, f"{path or 'The body'} {error}", item)


def _label(value: object, longest: int) -> str:
    """Return the value if it is a printable text that is short enough, else "". PostgreSQL refuses NUL."""
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""


def _without_scheme(authorization: str | None) -> str:
    scheme, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else (authorization or "").strip()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
