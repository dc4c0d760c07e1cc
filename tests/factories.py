"""Factories of valid objects; keywords say what differs.

Times of changes are given in seconds after noon. A message is made one second after its event.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from app.domain.account import Capacity
from app.domain.call import Call, Claim, Pending, plan
from app.domain.change import AudienceEvent, Kind, MembershipChange, Move
from app.domain.export import Export, ExportState
from app.domain.membership import Membership
from app.domain.settlement import Settlement

NOON = datetime(2026, 4, 11, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

ADA = "ada@example.com"
LOVELACE = "lovelace@example.com"
GRACE = "grace@example.com"
ADA_ID = "15000000000000000001"
GRACE_ID = "15000000000000000002"

EXPORT = 1
ACCOUNT = "default"
AUDIENCE = "0a1b2c3d"
LIST = "Lytics Spring Buyers"


class Effect(StrEnum):
    """What is known of the effect of a request at Sailthru."""

    CONFIRMED = "confirmed"
    NONE = "none"
    UNKNOWN = "unknown"


class Clock:
    """A clock that stands still until it is advanced."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def ns(seconds: float) -> int:
    """Return seconds after noon as nanoseconds since 1970."""
    return (int(NOON.timestamp()) * 1_000_000 + round(seconds * 1_000_000)) * 1000


def move(at: float, message: float | None = None, *, is_enter: bool = True) -> Move:
    return Move(ns(at), ns(at + 1 if message is None else message), is_enter)


def enter(
    address: str = ADA,
    *,
    at: float = 0,
    message: float | None = None,
    lytics_id: str | None = ADA_ID,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
    export_id: int = EXPORT,
    clock_corrected: bool = False,
    on_arrival: bool = False,
) -> MembershipChange:
    return MembershipChange(
        export_id=export_id,
        kind=Kind.ENTER,
        address=address,
        lytics_id=lytics_id,
        moved_at_ns=ns(at),
        message_at_ns=ns(at + 1 if message is None else message),
        vars=vars or {},
        moved_on_arrival=on_arrival,
        message_on_arrival=on_arrival,
        clock_corrected=clock_corrected,
    )


def exit_(
    address: str | None = ADA,
    *,
    at: float = 0,
    message: float | None = None,
    lytics_id: str | None = ADA_ID,
    export_id: int = EXPORT,
) -> MembershipChange:
    return MembershipChange(
        export_id=export_id,
        kind=Kind.EXIT,
        address=address,
        lytics_id=lytics_id,
        moved_at_ns=ns(at),
        message_at_ns=ns(at + 1 if message is None else message),
        vars={},
    )


def change(
    address: str | None = ADA,
    *,
    message: float,
    lytics_id: str | None = ADA_ID,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
    export_id: int = EXPORT,
) -> MembershipChange:
    return MembershipChange(
        export_id=export_id,
        kind=Kind.CHANGE,
        address=address,
        lytics_id=lytics_id,
        moved_at_ns=None,
        message_at_ns=ns(message),
        vars=vars or {},
    )


def event(kind: Kind = Kind.ENTER, **different: Any) -> AudienceEvent:
    """An event of Ada at noon, with an address that needs cleaning."""
    values: dict[str, Any] = {
        "kind": kind,
        "audience_id": AUDIENCE,
        "audience_slug": "spring_buyers",
        "lytics_id": ADA_ID,
        "moved_at_ns": None if kind is Kind.CHANGE else ns(0),
        "message_at_ns": ns(1),
        "profile": {"email": " Ada@Example.com ", "city": "Turin", "age": None},
    }
    return AudienceEvent(**values | different)


def export(**different: Any) -> Export:
    values: dict[str, Any] = {
        "id": EXPORT,
        "audience_id": AUDIENCE,
        "audience_slug": "spring_buyers",
        "audience_name": "Spring Buyers",
        "account": ACCOUNT,
        "email_field": "email",
        "fields": {},
        "list_name": LIST,
        "list_id": None,
        "list_ready_at": NOON,
        "state": ExportState.RUNNING,
        "reason": None,
        "created_at": NOON,
    }
    return Export(**values | different)


def membership(**different: Any) -> Membership:
    """Return a membership that has entered and is not confirmed."""
    values: dict[str, Any] = {
        "export_id": EXPORT,
        "address": ADA,
        "desired": True,
        "moved": move(0, is_enter=different.get("desired", True)),
        "fields_at_ns": ns(1),
        "lytics_id": ADA_ID,
        "revision": 1,
        "accepted_at": NOON,
    }
    return Membership(**values | different)


def pending(list_name: str = LIST, *, list_ready: bool = True, **different: Any) -> Pending:
    return Pending(list_name, list_ready, membership(**different))


def claim(*ones: Pending, **different: Any) -> Claim:
    """Return a claim of what is pending."""
    held = ones or (pending(),)
    values: dict[str, Any] = {
        "member_id": 1,
        "account": ACCOUNT,
        "address": ADA,
        "lease": 7,
        "leased_until": NOON + MINUTE,
        "attempts": 1,
        "pending": tuple(replace(one, membership=replace(one.membership)) for one in held),
    }
    return Claim(**values | different)


def settlement(
    held: Claim,
    effect: Effect = Effect.CONFIRMED,
    *,
    call: Call | None = None,
    is_spent: bool = False,
    **different: Any,
) -> Settlement:
    """Return how the first request of a claim, or the one given, ended."""
    covers = (call or held.call).covers
    values: dict[str, Any] = {
        "outcome": "ok" if effect is Effect.CONFIRMED else "503",
        "confirmed": dict(covers) if effect is Effect.CONFIRMED else {},
        "unknown": frozenset(covers) if effect is Effect.UNKNOWN else frozenset(),
        "spent_at": NOON if is_spent else None,
    }
    return Settlement(held, **values | different)


def room(
    calls: int, *, backfill_calls: int | None = None, is_probe: bool = False, failing: frozenset[int] = frozenset()
) -> Capacity:
    return Capacity(calls, calls if backfill_calls is None else backfill_calls, is_probe, failing)


def after_read(held: Claim, lists: frozenset[str] | None = None) -> Call:
    """Return the write that follows a read with this result; None for no profile."""
    return plan(held.pending, lists, was_read=True)
