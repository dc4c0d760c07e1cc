"""The explanations of rejected webhooks. Each next step names the field to change in Lytics.

The answer to Lytics, the rejected events and `explain` use these sentences. The field names are those of the Lytics job
"Audience Triggers Webhook".
https://www.contentstack.com/docs/lytics/webhooks
"""

from collections.abc import Mapping
from types import MappingProxyType

from app.domain.explanation import Explanation
from app.domain.rejection import Reason

_JOB = "every message of this Lytics job"
_REQUEST = "every event of this request"
_EVENT = "the member of this event"

_TEMPLATE = "In the Lytics job, leave Lytics Template empty. Lytics then sends its documented format."
_JOB_TYPE = "In Lytics, use a job of the type Audience Triggers Webhook, and leave its Lytics Template empty."
_AGAIN = "Nothing: Lytics sends the request again."
_PROXY = f"{_AGAIN} If this continues, check the network and the proxy in front of this service."

EXPLANATIONS: Mapping[Reason, Explanation] = MappingProxyType(
    {
        Reason.NO_TOKEN: Explanation(
            "The webhook has no token.",
            _JOB,
            "In the Lytics authorization of the job, add a line under Webhook Request Headers: Authorization: followed"
            " by one of this service's webhook tokens (WEBHOOK_TOKENS).",
        ),
        Reason.UNKNOWN_TOKEN: Explanation(
            "The webhook's token is not one of this service's webhook tokens (WEBHOOK_TOKENS).",
            _JOB,
            "Correct it in the Lytics authorization of the job, under Webhook Request Headers.",
        ),
        Reason.NOT_JSON: Explanation("The body is not JSON.", _REQUEST, _TEMPLATE),
        Reason.UNKNOWN_SHAPE: Explanation("A message is not an audience trigger message.", _JOB, _JOB_TYPE),
        Reason.NO_SEGMENT_EVENTS: Explanation(
            "A message names no audience: segment_events is missing or empty.",
            _JOB,
            "In the Lytics job, under Export Fields, tick segment_events, the e-mail field and the fields to export.",
        ),
        Reason.UNREADABLE_EVENT: Explanation("An element of segment_events is not an object.", _EVENT, _TEMPLATE),
        Reason.UNKNOWN_EVENT: Explanation("An event is not one of enter, exit, change.", _EVENT, _JOB_TYPE),
        Reason.NO_AUDIENCE_ID: Explanation("An event does not give the id of its audience.", _EVENT, _TEMPLATE),
        Reason.UNREADABLE_TIME: Explanation(
            "A time is not in RFC 3339 format, or not between the years 1970 and 2250.", _EVENT, _TEMPLATE
        ),
        Reason.NO_USABLE_ADDRESS: Explanation(
            "The event has no usable e-mail address.",
            _EVENT,
            "In the Lytics job, under Export Fields, tick the field that holds the address. If it is ticked already,"
            " exclude profiles without an address from the audience: they cannot be added to a list.",
        ),
        Reason.TOO_LARGE: Explanation(
            "The body is larger than this service accepts.",
            _REQUEST,
            "In the Lytics job, lower Batch Size, or tick fewer fields under Export Fields.",
        ),
        Reason.TOO_SLOW: Explanation("The body took too long to arrive.", _REQUEST, _PROXY),
        Reason.CUT_OFF: Explanation("The connection ended before the whole body had arrived.", _REQUEST, _PROXY),
        Reason.UNAVAILABLE: Explanation(
            "The service could not store the webhook.",
            _REQUEST,
            f"{_AGAIN} If this continues, call GET /health/ready and read the log.",
        ),
    }
)


def advice(reason: Reason, happened: str = "") -> str:
    """Return the problem and the next step.

    Args:
        happened: replaces the general sentence about the problem.
    """
    explanation = EXPLANATIONS[reason]
    return f"{happened or explanation.happened} {explanation.next_step}"
