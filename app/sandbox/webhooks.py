"""The bodies that Lytics' job "Audience Triggers Webhook" sends, in its default format.

https://www.contentstack.com/docs/lytics/webhooks
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from app.sandbox.answers import JSONObject
from app.sandbox.audiences import SPRING_BUYERS, Audience

SUBSCRIPTION_ID = "11223344556677889900aabbccddeeff"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = 1_000_000_000
MESSAGE_LAG = NANOSECONDS
"""How far, by default, the time of a message runs behind that of its event."""

Moment = datetime | int
"""Aware, or whole nanoseconds since 1970 (UTC)."""


def enter(
    email: str | None,
    audience: Audience = SPRING_BUYERS,
    *,
    at: Moment,
    sent_at: Moment | None = None,
    user_id: str | None = None,
    fields: Mapping[str, object] | None = None,
) -> JSONObject:
    """Somebody entered the audience `at` a time.

    Args:
        email: None for a profile without an address.
        audience: what was entered.
        at: when it happened.
        sent_at: the time of the message; a second later by default.
        user_id: the Lytics id; by default one that follows from the address.
        fields: the other profile fields to be sent along.
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
    """Somebody left the audience; arguments as for `enter`."""
    return _body(email, audience, "exit", at=at, sent_at=sent_at, user_id=user_id, fields=fields)


def change(
    email: str | None,
    audience: Audience = SPRING_BUYERS,
    *,
    sent_at: Moment,
    user_id: str | None = None,
    fields: Mapping[str, object] | None = None,
) -> JSONObject:
    """A field of somebody in the audience changed; such an event has no time of its own, only the message has."""
    return _body(email, audience, "change", at=None, sent_at=sent_at, user_id=user_id, fields=fields)


def timestamp(moment: Moment) -> str:
    """RFC 3339 in UTC with nine digits of a second."""
    seconds, nanoseconds = divmod(_nanoseconds(moment), NANOSECONDS)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def user_id_of(email: str | None) -> str:
    """A made-up Lytics id: 64 unsigned bits as text, the same for the same address."""
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
