"""Membership: one address in one export, with its desired and its confirmed state; the difference is the work.

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

    It is `unknown` from the moment a call leaves until its answer is settled. A leave is then always sent, a join only
    after a read.
    """

    NEVER = "never"
    IN = "in"
    OUT = "out"
    UNKNOWN = "unknown"


class Need(StrEnum):
    """What a membership needs of Sailthru."""

    NOTHING = "nothing"
    JOIN = "join"
    LEAVE = "leave"
    VARS = "vars"
    READ = "read"


# What a membership needs that is not desired on the list. Where no join was ever confirmed Sailthru is read first: a
# write would create a profile that can receive mail.
_NEED_OUTSIDE = {
    Confirmed.NEVER: Need.READ,
    Confirmed.IN: Need.LEAVE,
    Confirmed.OUT: Need.NOTHING,
    Confirmed.UNKNOWN: Need.LEAVE,
}


@dataclass(slots=True, kw_only=True)
class Confirmation:
    """How far a membership is confirmed: what the end of an attempt reads and changes.

    Args:
        revision: raised by one with each accepted change.
        confirmed_revision: everything up to it is settled; pending means revision > confirmed_revision.
        confirmed_vars: digest of the vars that Sailthru last acknowledged; None for none, or not known.
        dead_code: why this membership was given up, until a newer change or a redrive comes; `dead_at` is when.
        first_failed_at: when the newest change failed for the first time, by the account's running clock.
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
        """True if there are vars, and Sailthru is not known to have exactly these."""
        return bool(self.vars) and digest(self.vars) != self.confirmed_vars

    @property
    def need(self) -> Need:
        """The request that Sailthru must get so that the confirmed state becomes the desired one."""
        if not self.desired:
            return _NEED_OUTSIDE[self.confirmed]
        if self.confirmed is Confirmed.IN:
            return Need.VARS if self.has_new_vars else Need.NOTHING
        return Need.READ if self.confirmed is Confirmed.UNKNOWN else Need.JOIN


def digest(values: Mapping[str, object]) -> str:
    """Return a fingerprint of vars that does not depend on their order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
