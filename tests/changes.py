"""Membership changes at small numbers of nanoseconds, for tables where only the order of times counts."""

from collections.abc import Mapping

from app.domain.change import Kind, MembershipChange
from tests.factories import ADA, ADA_ID


def enter(
    address: str | None = ADA,
    *,
    at: int = 100,
    sent: int | None = None,
    lytics_id: str | None = ADA_ID,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
) -> MembershipChange:
    """Return an enter; its message is made at the same moment unless `sent` is given."""
    return MembershipChange(1, Kind.ENTER, address, lytics_id, at, at if sent is None else sent, vars or {})


def exit_(
    address: str | None = ADA, *, at: int = 100, sent: int | None = None, lytics_id: str | None = ADA_ID
) -> MembershipChange:
    """Return an exit; its message is made at the same moment unless `sent` is given."""
    return MembershipChange(1, Kind.EXIT, address, lytics_id, at, at if sent is None else sent, {})


def change(
    address: str | None = ADA,
    *,
    at: int = 100,
    lytics_id: str | None = ADA_ID,
    vars: Mapping[str, object] | None = None,  # noqa: A002 - Sailthru's own word
) -> MembershipChange:
    """Return a change of fields whose message is made `at` that moment."""
    return MembershipChange(1, Kind.CHANGE, address, lytics_id, None, at, vars or {})
