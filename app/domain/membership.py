"""Membership: one address in one export, with its desired state, its confirmed state, and the call that it needs.

A member is one address in one Sailthru account. It has one membership for each export.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.change import Move


class Confirmed(StrEnum):
    """What Sailthru last acknowledged of a membership.

    It is `unknown` while a call is in flight, and after a call without a readable answer. In this state a leave is
    always sent, and a join only after a read.
    """

    NEVER = "never"
    IN = "in"
    OUT = "out"
    UNKNOWN = "unknown"


class Need(StrEnum):
    """The call that a membership needs."""

    NOTHING = "nothing"
    JOIN = "join"
    LEAVE = "leave"
    VARS = "vars"
    READ = "read"


# Needs of a membership that is not desired on the list. If no join was ever confirmed, Sailthru is read first: a write
# would create a profile that can receive mail.
_NEED_OUTSIDE = {
    Confirmed.NEVER: Need.READ,
    Confirmed.IN: Need.LEAVE,
    Confirmed.OUT: Need.NOTHING,
    Confirmed.UNKNOWN: Need.LEAVE,
}


@dataclass(slots=True, kw_only=True)
class Confirmation:
    """The part of a membership that the end of an attempt reads and changes.

    Args:
        revision: raised by one with each accepted change.
        confirmed_revision: the newest settled revision. Pending means revision > confirmed_revision.
        confirmed_vars: digest of the vars that Sailthru last acknowledged; None if there are none or they are unknown.
        dead_code, dead_at: why and when it became a dead letter. A newer change or a redrive clears both.
        first_failed_at: when the newest change failed for the first time, by the account's retry clock.
        erasure: set if the address was erased; the row is removed once it is not pending, see `app.domain.erasure`.
    """

    export_id: int
    revision: int = 0
    confirmed: Confirmed = Confirmed.NEVER
    confirmed_revision: int = 0
    confirmed_vars: str | None = None
    confirmed_at: datetime | None = None
    dead_code: str | None = None
    dead_at: datetime | None = None
    first_failed_at: datetime | None = None
    erasure: str | None = None

    @property
    def is_pending(self) -> bool:
        """True while a change is not settled."""
        return self.revision > self.confirmed_revision


@dataclass(slots=True, kw_only=True)
class Membership(Confirmation):
    """One address in one export: a working copy of its row.

    Args:
        moved: the newest enter or exit; its `is_enter` equals `desired`. None before the first.
        fields_at_ns: message time of the newest fields; None while out.
        lytics_id: the Lytics user who entered this address, as far as known.
        vars: what to write with the join; empty while out.
        accepted_at: when the newest change was accepted; None if it came from a scan.
    """

    address: str
    desired: bool = False
    moved: Move | None = None
    fields_at_ns: int | None = None
    lytics_id: str | None = None
    vars: Mapping[str, object] = field(default_factory=dict)
    accepted_at: datetime | None = None

    @property
    def has_new_vars(self) -> bool:
        """True if there are vars that Sailthru has not acknowledged exactly as they are."""
        return bool(self.vars) and digest(self.vars) != self.confirmed_vars

    @property
    def need(self) -> Need:
        """The call that makes the confirmed state equal to the desired one."""
        if not self.desired:
            return _NEED_OUTSIDE[self.confirmed]
        if self.confirmed is Confirmed.IN:
            return Need.VARS if self.has_new_vars else Need.NOTHING
        return Need.READ if self.confirmed is Confirmed.UNKNOWN else Need.JOIN


def digest(values: Mapping[str, object]) -> str:
    """Return a fingerprint of vars that does not depend on their order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
