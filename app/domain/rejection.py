"""Why a webhook, or one event of it, is not kept, in words that name the box to tick in Lytics.

The one place of these sentences: the answer to Lytics, the rejected events and `explain` take them from here. The names
of the boxes are those of Lytics' job "Audience Triggers Webhook".
https://www.contentstack.com/docs/lytics/webhooks
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from app.domain.explanation import Explanation


class Reason(StrEnum):
    """A fixed word for each, in answers, metrics and rejected events."""

    NO_TOKEN = "no_token"  # noqa: S105 - a reason, not a token
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - likewise
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


_JOB = "every message of this Lytics job"
_REQUEST = "everybody in this request"
_PERSON = "this person"

_TEMPLATE = "In the Lytics job, leave Lytics Template empty, so that the message has the form that Lytics documents."
_JOB_TYPE = "In Lytics, use a job of the type Audience Triggers Webhook, and leave its Lytics Template empty."
_AGAIN = "Nothing: Lytics sends the request again by itself."
_PROXY = f"{_AGAIN} If it lasts, check the line and the proxy before this service."

EXPLANATIONS: Mapping[Reason, Explanation] = MappingProxyType(
    {
        Reason.NO_TOKEN: Explanation(
            "The webhook carries no token.",
            _JOB,
            "In the Lytics authorization of the job, add under Webhook Request Headers a line Authorization: with one"
            " of this service's webhook tokens (WEBHOOK_TOKENS).",
        ),
        Reason.UNKNOWN_TOKEN: Explanation(
            "The webhook's token is not one of this service's (WEBHOOK_TOKENS).",
            _JOB,
            "Correct it in the Lytics authorization of the job, under Webhook Request Headers.",
        ),
        Reason.NOT_JSON: Explanation("The body is not JSON.", _REQUEST, _TEMPLATE),
        Reason.UNKNOWN_SHAPE: Explanation("A message is not one of an audience trigger.", _JOB, _JOB_TYPE),
        Reason.NO_SEGMENT_EVENTS: Explanation(
            "A message does not say which audience it is about: segment_events is missing or empty.",
            _JOB,
            "In the Lytics job, under Export Fields, tick segment_events, next to the e-mail field and the fields to"
            " bring over.",
        ),
        Reason.UNREADABLE_EVENT: Explanation("An element of segment_events is not an object.", _PERSON, _TEMPLATE),
        Reason.UNKNOWN_EVENT: Explanation("An event is none of enter, exit, change.", _PERSON, _JOB_TYPE),
        Reason.NO_AUDIENCE_ID: Explanation("An event does not name its audience by an id.", _PERSON, _TEMPLATE),
        Reason.UNREADABLE_TIME: Explanation(
            "A time is none of RFC 3339 between the years 1970 and 2250.", _PERSON, _TEMPLATE
        ),
        Reason.NO_USABLE_ADDRESS: Explanation(
            "The event has no usable e-mail address.",
            _PERSON,
            "In the Lytics job, under Export Fields, tick the field that holds the address. If it is ticked, leave"
            " people without an address out of the audience: they can't be put on a list.",
        ),
        Reason.TOO_LARGE: Explanation(
            "The body is larger than this service takes.",
            _REQUEST,
            "In the Lytics job, lower Batch Size, or tick fewer fields under Export Fields.",
        ),
        Reason.TOO_SLOW: Explanation("The body took too long to arrive.", _REQUEST, _PROXY),
        Reason.CUT_OFF: Explanation("The connection ended before the body was whole.", _REQUEST, _PROXY),
        Reason.UNAVAILABLE: Explanation(
            "The service could not store the webhook just then.",
            _REQUEST,
            f"{_AGAIN} If it lasts, look at GET /health/ready and at the log.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message or an event that can't be kept, and would not be better for being sent again.

    Args:
        happened: what is wrong, and where in the body; never a value.
        item: which element of an array it is of, from 0; None where the body is no array.
    """

    reason: Reason
    happened: str
    item: int | None = None

    @property
    def advice(self) -> str:
        """What is wrong and what to change in Lytics."""
        return f"{self.happened} {EXPLANATIONS[self.reason].next_step}"
