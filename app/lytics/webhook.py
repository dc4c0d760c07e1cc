"""A webhook of Lytics, without I/O: whose token it carries, and which events its body tells.

Formats: https://www.contentstack.com/docs/lytics/webhooks
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from app.domain.change import AudienceEvent, Kind
from app.domain.errors import UnauthenticatedWebhook
from app.domain.rejection import EXPLANATIONS, Reason, Rejection
from app.lytics.timestamps import nanoseconds
from app.lytics.wire import Message, parse_json

CLOCK_TOLERANCE_NS = 600 * 1_000_000_000
LONGEST_ID = 128
LONGEST_LABEL = 255
# Ten times Lytics' largest batch. A body of 16 MB has room for millions, which would hold up everybody else.
MOST_EVENTS = 10_000
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class WebhookToken:
    """A secret that Lytics shows with each webhook, and the label by which people and logs call it."""

    label: str
    token: str = field(repr=False)


class Reading(NamedTuple):
    """What a body tells: the events that can be kept, and why the others can't, each in the body's order."""

    events: list[AudienceEvent]
    rejected: list[Rejection]


def authenticate(
    authorization: str | None, x_api_key: str | None, query_token: str | None, tokens: Collection[WebhookToken]
) -> str:
    """The label of the token that the sender showed: in `Authorization`, with or without `Bearer`, in `X-API-Key`, or
    in the URL.

    Takes the same time whichever token is right or nearly right. Without tokens nobody gets in.

    Raises:
        UnauthenticatedWebhook: none was shown (`no_token`), or none that we know (`unknown_token`).
    """
    shown = [text for text in (_without_scheme(authorization), x_api_key, query_token) if text]
    if not shown:
        raise UnauthenticatedWebhook(Reason.NO_TOKEN)
    found = None
    for text in shown:
        for known in tokens:
            is_equal = hmac.compare_digest(_bytes(text), _bytes(known.token))
            found = known.label if is_equal and found is None else found
    if found is None:
        raise UnauthenticatedWebhook(Reason.UNKNOWN_TOKEN)
    return found


def read(body: bytes, *, arrived_at_ns: int) -> Reading:
    """The events of a webhook body: of one message in the default format, in the older one or as a CloudEvent, or of a
    bare array of them, mixed as they come.

    Each message stands alone, and each element of its `segment_events`: a bad one does not take others along. An empty
    array tells nothing, which is no error. Lytics' batches hold 1,000 messages at most; longer arrays are read as well,
    since who refuses one loses all that is in it, but a body of more than 10,000 events is refused as a whole.

    Args:
        body: as received, already authenticated.
        arrived_at_ns: counts for times that are missing, or lie more than ten minutes ahead.
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
    """Why a message, or one element of it, can't be kept."""

    def __init__(self, reason: Reason, path: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.path = path


class _Moment(NamedTuple):
    """A time in nanoseconds; on arrival where it is our clock's, corrected where it lay too far ahead of that."""

    at_ns: int
    is_on_arrival: bool = False
    is_corrected: bool = False


class _Envelope(NamedTuple):
    """What the events of one message have in common."""

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
    """One message, and the elements of its `segment_events`."""
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
    # Only the time of the event's own kind: an enter may carry the `exit` that is scheduled for the year 2099.
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
    """The moment as it was told; that of the arrival where it is missing, or lies too far ahead."""
    if value is None:
        return _Moment(arrived_at_ns, is_on_arrival=True)
    try:
        moment = nanoseconds(value if isinstance(value, str) else "")
    except ValueError as error:
        raise _Unreadable(Reason.UNREADABLE_TIME, path, f"is no time that can be used: {error}") from None
    if moment > arrived_at_ns + CLOCK_TOLERANCE_NS:
        return _Moment(arrived_at_ns, is_on_arrival=True, is_corrected=True)
    return _Moment(moment)


def _rejection(error: _Unreadable, item: int | None) -> Rejection:
    path = error.path if item is None else f"[{item}].{error.path}".rstrip(".")
    return Rejection(error.reason, f"{path or 'The body'} {error}", item)


def _label(value: object, longest: int) -> str:
    """The value if it is a word that can be kept, else "". Control characters are in none, and PostgreSQL refuses
    NUL.
    """
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""


def _without_scheme(authorization: str | None) -> str:
    scheme, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else (authorization or "").strip()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
