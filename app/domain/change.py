"""An event from Lytics, and the membership change that it means for one export.

Times that decide which change wins are integer nanoseconds since 1970 UTC (`_ns`), as Lytics sends them; a Python
datetime would drop three digits.

Types that are created for each event are named tuples, because creating a frozen dataclass takes twice as long.
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

    The times in the message do not matter for this: an `enter` may also carry a scheduled exit, such as in 2099.
    """

    ENTER = "enter"
    EXIT = "exit"
    CHANGE = "change"


class Move(NamedTuple):
    """An enter or exit. Moves are ordered by event time, then message time, then exit before enter."""

    moved_at_ns: int
    message_at_ns: int
    is_enter: bool


class AudienceEvent(NamedTuple):
    """One element of `segment_events`, read and checked but not yet resolved against the exports.

    Args:
        audience_id: Lytics' segment id.
        audience_slug: its slug, used only as a label; empty if Lytics left it out.
        lytics_id: the user's id in Lytics; None if the format has none.
        moved_at_ns: when the user entered or left; None for a `change`.
        message_at_ns: when Lytics made the message.
        profile: the user's fields, as sent.
        moved_on_arrival, message_on_arrival: True if the time was missing or not plausible, and was replaced by the
            arrival time.
        clock_corrected: True if a time was more than ten minutes ahead of our clock, and was replaced by the arrival
            time.
        item: index of the message if the body is an array of messages, from 0; otherwise None.
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
    """An event, resolved for one export: address, Lytics id, kind, times, and the vars to write.

    At least one of address and Lytics id is set. An `enter` always has an address.

    Args:
        by_scan: True if a scan found the member in the audience, and there was no event.
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
