"""
A webhook of Lytics, without I/O: whose token it carries, and which events its body tells.

Formats: https://www.contentstack.com/docs/lytics/webhooks
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from app.domain.change import AudienceEvent, Kind, Rejection
from app.domain.errors import MalformedWebhook, UnauthenticatedWebhook
from app.lytics.timestamps import nanoseconds
from app.lytics.wire import Message

CLOCK_TOLERANCE_NS = 600 * 1_000_000_000
LONGEST_ID = 128
LONGEST_LABEL = 255
_KINDS = {kind.value: kind for kind in Kind}

_OTHER_FORMAT = "In the Lytics job, leave Lytics Template empty and switch CloudEvents and Batch Events off."
_EXPORT_FIELDS = "Export Fields: tick segment_events, next to the e-mail field and the fields to bring over."


@dataclass(frozen=True, slots=True)
class WebhookToken:
    """
    A secret that Lytics shows with each webhook, and the label by which people and logs call it.
    """

    label: str
    token: str = field(repr=False)


class Reading(NamedTuple):
    """
    What a body tells: the events that can be kept, in its order, and why the others can't.
    """

    events: list[AudienceEvent]
    rejected: list[Rejection]


def authenticate(
    authorization: str | None, x_api_key: str | None, query_token: str | None, tokens: Collection[WebhookToken]
) -> str:
    """
    The label of the token that the sender showed: in `Authorization`, with or without `Bearer`, in `X-API-Key`, or in
    the URL.

    Takes the same time whichever token is right or nearly right. Without tokens nobody gets in.

    Raises:
        UnauthenticatedWebhook: none was shown (`no_token`), or none that we know (`unknown_token`).
    """
    shown = [text for text in (_without_scheme(authorization), x_api_key, query_token) if text]
    if not shown:
        raise UnauthenticatedWebhook(
            "no_token",
            "The webhook carries no token: in the Lytics authorization of the job, add a header line"
            " Authorization with one of this service's webhook tokens.",
        )
    found = None
    for text in shown:
        for known in tokens:
            is_equal = hmac.compare_digest(_bytes(text), _bytes(known.token))
            found = known.label if is_equal and found is None else found
    if found is None:
        raise UnauthenticatedWebhook(
            "unknown_token",
            "The webhook's token is not one of this service's: correct it in the Lytics authorization of the job.",
        )
    return found


def read(body: bytes, *, arrived_at_ns: int) -> Reading:
    """
    The events of a webhook body. Each element of `segment_events` stands alone: a bad one does not take others along.

    Args:
        body: as received, already authenticated.
        arrived_at_ns: counts for times that are missing, or lie more than ten minutes ahead.

    Raises:
        MalformedWebhook: nothing could be kept; `reason` and advice are those of the first bad event, if it got so far.
    """
    try:
        document = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        raise MalformedWebhook("not_json", f"The body is not JSON. {_OTHER_FORMAT}") from None
    if not isinstance(document, dict) or "specversion" in document:
        raise MalformedWebhook("unknown_shape", f"The body is not one message in the default format. {_OTHER_FORMAT}")
    reading = _read_default(document, arrived_at_ns)
    if not reading.events:
        raise MalformedWebhook(reading.rejected[0].reason, reading.rejected[0].advice)
    return reading


def _read_default(document: dict[str, Any], arrived_at_ns: int) -> Reading:
    """
    The events of one message in the default format, or in the older one, which leaves out `id` and the message time.
    """
    try:
        message = Message.model_validate(document)
    except ValidationError as error:
        name = error.errors(include_input=False)[0]["loc"][0]
        raise MalformedWebhook("unknown_shape", f"{name} is missing or not as expected. {_OTHER_FORMAT}") from None
    elements = message.data.get("segment_events")
    if not isinstance(elements, list) or not elements:
        raise MalformedWebhook("no_segment_events", f"data.segment_events is missing or empty. {_EXPORT_FIELDS}")
    profile = {name: value for name, value in message.data.items() if name != "segment_events"}
    reading = Reading([], [])
    for index, element in enumerate(elements):
        try:
            event = _read_event(element, f"data.segment_events[{index}]", message, profile, arrived_at_ns)
        except MalformedWebhook as error:
            reading.rejected.append(Rejection(error.reason, str(error)))
        else:
            reading.events.append(event)
    return reading


def _read_event(
    element: object, path: str, message: Message, profile: dict[str, Any], arrived_at_ns: int
) -> AudienceEvent:
    if not isinstance(element, dict):
        raise MalformedWebhook("unreadable_event", f"{path} is not an object. {_OTHER_FORMAT}")
    kind = _KINDS.get(_label(element.get("event"), LONGEST_LABEL))
    if kind is None:
        raise MalformedWebhook("unknown_event", f"{path}.event is none of enter, exit, change. {_OTHER_FORMAT}")
    audience_id = _label(element.get("id"), LONGEST_ID)
    if not audience_id:
        raise MalformedWebhook("no_audience_id", f"{path}.id is not an audience's id. {_OTHER_FORMAT}")
    message_at_ns, is_message_ahead = _moment(message.meta.timestamp, "meta.timestamp", arrived_at_ns)
    moved_at_ns, is_move_ahead = None, False
    if kind is not Kind.CHANGE:
        # Only the time of the event's own kind: an enter may carry the `exit` that is scheduled for the year 2099.
        own_time = element.get(kind.value)
        moved_at_ns, is_move_ahead = (
            (message_at_ns, False) if own_time is None else _moment(own_time, f"{path}.{kind.value}", arrived_at_ns)
        )
    return AudienceEvent(
        kind=kind,
        audience_id=audience_id,
        audience_slug=_label(element.get("slug"), LONGEST_LABEL),
        lytics_id=message.id,
        moved_at_ns=moved_at_ns,
        message_at_ns=message_at_ns,
        profile=profile,
        clock_corrected=is_message_ahead or is_move_ahead,
    )


def _moment(value: object, path: str, arrived_at_ns: int) -> tuple[int, bool]:
    """
    The moment in nanoseconds, and whether the arrival took its place because it lay too far ahead.
    """
    if value is None:
        return arrived_at_ns, False
    try:
        moment = nanoseconds(value if isinstance(value, str) else "")
    except ValueError as error:
        raise MalformedWebhook("unreadable_time", f"{path}: {error} {_OTHER_FORMAT}") from None
    if moment > arrived_at_ns + CLOCK_TOLERANCE_NS:
        return arrived_at_ns, True
    return moment, False


def _label(value: object, longest: int) -> str:
    """
    The value if it is a word that can be kept, else "". Control characters are in none, and PostgreSQL refuses NUL.
    """
    return value if isinstance(value, str) and len(value) <= longest and value.isprintable() else ""


def _without_scheme(authorization: str | None) -> str:
    scheme, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else (authorization or "").strip()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
