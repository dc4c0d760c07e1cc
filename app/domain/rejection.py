"""Reasons to reject a webhook, or one event of it. `app.explain.rejections` has the texts for operators."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A fixed word for scripts. It appears in answers, metrics and rejected events."""

    NO_TOKEN = "no_token"  # noqa: S105 - a reason, not a token
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - a reason, not a token
    NOT_JSON = "not_json"
    UNKNOWN_SHAPE = "unknown_shape"
    NO_SEGMENT_EVENTS = "no_segment_events"
    UNREADABLE_EVENT = "unreadable_event"
    UNKNOWN_EVENT = "unknown_event"
    NO_AUDIENCE_ID = "no_audience_id"
    UNREADABLE_TIME = "unreadable_time"
    NO_USABLE_ADDRESS = "no_usable_address"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    CUT_OFF = "cut_off"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message or an event that cannot be stored. Sending it again would not help.

    Args:
        happened: the problem and its place in the body; never a value of the body.
        item: the index of the message in an array, from 0; None if the body is not an array.
    """

    reason: Reason
    happened: str
    item: int | None = None
