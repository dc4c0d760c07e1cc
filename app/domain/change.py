"""An event as Lytics sends it, and the membership change that it means for one export.

Times that decide which change wins are integer nanoseconds since 1970 UTC (`_ns`), as Lytics sends them; a Python
datetime would drop three digits.

Types that are made for every event are named tuples: a frozen dataclass takes twice as long to make.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """Return an aware time as nanoseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


class Kind(StrEnum):
    """What happened to a user in an audience.

    Only this word decides, never which time the message holds: an `enter` may carry a scheduled `exit` of the year
    2099.
    """

    ENTER = "enter"
    EXIT = "exit"
    CHANGE = "change"


class Move(NamedTuple):
    """An enter or exit; the greater one is the newer: by event time, then message time, then exit before enter."""

    moved_at_ns: int
    message_at_ns: int
    is_enter: bool


class AudienceEvent(NamedTuple):
    """One element of `segment_events`, read and checked but not yet resolved against the exports.

    Args:
        audience_id: Lytics' segment id.
        audience_slug: its slug, a label only; empty where Lytics left it out.
        lytics_id: the user's id in Lytics, or None where the format has none.
        moved_at_ns: when the user entered or left; None for a `change`.
        message_at_ns: when Lytics made the message.
        profile: the user's fields, as sent.
        moved_on_arrival, message_on_arrival: the time is that of the arrival by our clock, in place of one that was
            missing or not plausible.
        clock_corrected: a time lay more than ten minutes ahead of our clock and was replaced by the arrival time.
        item: the element of an array of messages that it came with, from 0; None where the body is no array.
    """

    kind: Kind
    audience_id: str
    audience_slug: str
    lytics_id: str | None
    moved_at_ns: int | None
    message_at_ns: int
    profile: Mapping[str, object]
    moved_on_arrival: bool = False
    message_on_arrival: bool = False
    clock_corrected: bool = False
    item: int | None = None


class MembershipChange(NamedTuple):
    """An event as one export understands it: address and Lytics id, what happened, when, and the vars to write.

    Either address or Lytics id is there; an `enter` always has an address.

    Args:
        by_scan: a scan found the member in the audience; there was no event.
    """

    export_id: int
    kind: Kind
    address: str | None
    lytics_id: str | None
    moved_at_ns: int | None
    message_at_ns: int
    vars: Mapping[str, object]
    moved_on_arrival: bool = False
    message_on_arrival: bool = False
    clock_corrected: bool = False
    by_scan: bool = False
