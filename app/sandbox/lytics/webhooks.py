"""The bodies of Lytics' job "Audience Triggers Webhook", in its default format.

https://www.contentstack.com/docs/lytics/webhooks
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from app.sandbox.bodies import JSONObject
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience

SUBSCRIPTION_ID = "11223344556677889900aabbccddeeff"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = 1_000_000_000
# The default delay between the time of an event and the time of its message.
MESSAGE_LAG = NANOSECONDS

# An aware datetime, or whole nanoseconds since 1970 (UTC).
Moment = datetime | int


def enter(
    email: str | None,
    audience: Audience = SPRING_BUYERS,
    *,
    at: Moment,
    sent_at: Moment | None = None,
    user_id: str | None = None,
    fields: Mapping[str, object] | None = None,
) -> JSONObject:
    """Return the body of an enter event.

    Args:
        email: None for a profile without an address.
        sent_at: the time of the message; one second after `at` by default.
        user_id: the Lytics id; by default `user_id_of(email)`.
        fields: further profile fields to send.
    """
    return _body(email, audience, "enter", at=at, sent_at=sent_at, user_id=user_id, fields=fields)


def exit_(
    email: str | None,
    audience: Audience = SPRING_BUYERS,
    *,
    at: Moment,
    sent_at: Moment | None = None,
    user_id: str | None = None,
    fields: Mapping[str, object] | None = None,
) -> JSONObject:
    """Return the body of an exit event. The arguments are those of `enter`."""
    return _body(email, audience, "exit", at=at, sent_at=sent_at, user_id=user_id, fields=fields)


def change(
    email: str | None,
    audience: Audience = SPRING_BUYERS,
    *,
    sent_at: Moment,
    user_id: str | None = None,
    fields: Mapping[str, object] | None = None,
) -> JSONObject:
    """Return the body of a change event. Only its message has a time."""
    return _body(email, audience, "change", at=None, sent_at=sent_at, user_id=user_id, fields=fields)


def timestamp(moment: Moment) -> str:
    """Return the time in RFC 3339, in UTC, with nine digits after the second."""
    seconds, nanoseconds = divmod(_nanoseconds(moment), NANOSECONDS)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def user_id_of(email: str | None) -> str:
    """Return a Lytics id derived from the address: 64 unsigned bits as a decimal string."""
    return str(int.from_bytes(hashlib.sha256((email or "").lower().encode()).digest()[:8], "big"))


def _body(
    email: str | None,
    audience: Audience,
    kind: str,
    *,
    at: Moment | None,
    sent_at: Moment | None,
    user_id: str | None,
    fields: Mapping[str, object] | None,
) -> JSONObject:
    event = {"id": audience.id, "event": kind, "slug": audience.slug}
    if at is not None:
        event[kind] = timestamp(at)
        sent_at = _nanoseconds(at) + MESSAGE_LAG if sent_at is None else sent_at
    data: JSONObject = {} if email is None else {"email": email}
    meta: JSONObject = {"object": "user", "subscription_id": SUBSCRIPTION_ID}
    if sent_at is not None:
        meta["timestamp"] = timestamp(sent_at)
    return {
        "id": user_id or user_id_of(email),
        "data": {**data, **(fields or {}), "segment_events": [event]},
        "meta": meta,
    }


def _nanoseconds(moment: Moment) -> int:
    if isinstance(moment, int):
        return moment
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
