"""What Lytics tells: an event as it arrives, and the membership change that it means for one export.

Times that decide who wins are integer nanoseconds since 1970 UTC (`_ns`), as Lytics sends them; Python's datetime
would drop three digits.

What is made for every event is a named tuple: a frozen dataclass takes twice as long to make.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """An aware time as nanoseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


class Kind(StrEnum):
    """What happened to a person in an audience. Only this word decides, never which time stands beside it: an `enter`
    may carry a scheduled `exit` of the year 2099.
    """

    ENTER = "enter"
    EXIT = "exit"
    CHANGE = "change"


class Move(NamedTuple):
    """When a person entered or left, ordered as the newest wins: event time, then message time, then exit before
    enter.
    """

    moved_at_ns: int
    message_at_ns: int
    is_enter: bool


class AudienceEvent(NamedTuple):
    """One element of `segment_events`, read and checked but not yet matched with an export.

    Args:
        audience_id: Lytics' segment id.
        audience_slug: its slug, a label only; empty where Lytics left it out.
        lytics_id: the user's id in Lytics, or None where the format has none.
        moved_at_ns: when the person entered or left; None for a `change`.
        message_at_ns: when Lytics made the message.
        profile: the user's fields, as sent.
        moved_on_arrival, message_on_arrival: the time is that of the arrival by our clock, in place of one that was
            missing or can't be believed.
        clock_corrected: a time lay more than ten minutes ahead of our clock and was replaced by the arrival time.
        item: which element of an array of messages it is of, from 0; None where the body is no array.
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
    """An event as one export understands it: who (address, Lytics id), what, when, and the vars to tell.

    Either address or Lytics id is there; an `enter` always has an address.

    Args:
        by_scan: no event, but a scan that found the person in the audience.
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
