"""Member: one address at one Sailthru account, the unit of work. Its memberships, one for each export, hold what is
wanted (what the newest change says) and what was told (what Sailthru last confirmed); the difference is the work.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.change import Move


class Confirmed(StrEnum):
    """What Sailthru was last told of a membership.

    `unknown` from the moment a call leaves until its answer is settled: a leave is then always sent, a join only
    after a read.
    """

    NEVER = "never"
    IN = "in"
    OUT = "out"
    UNKNOWN = "unknown"


class Need(StrEnum):
    """What has to be said to Sailthru about one membership."""

    NOTHING = "nothing"
    JOIN = "join"
    LEAVE = "leave"
    VARS = "vars"
    READ = "read"


@dataclass(slots=True, kw_only=True)
class Confirmation:
    """How far a membership has been told: what the end of an attempt is decided by, and changes.

    Args:
        revision: raised by one with each accepted change.
        told_revision: the revision up to which everything is settled; pending means revision > told_revision.
        told_vars: digest of the vars that Sailthru was last told; None for none, or not known.
        dead_code: why this membership was given up, as long as no newer change or redrive comes; `dead_at` is when.
        first_failed_at: when the newest change failed for the first time, by the account's running clock.
        erasure: the person was erased, and this goes too once it is not pending; see `app.domain.erasure`.
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
        """True while a change waits to be told."""
        return self.revision > self.confirmed_revision


@dataclass(slots=True, kw_only=True)
class Membership(Confirmation):
    """One address in one export: a working copy of its row.

    Args:
        moved: the newest enter or exit; its `is_enter` is `wanted`. None before the first.
        fields_at_ns: message time of the newest fields; None while out.
        lytics_id: the Lytics user who entered this address, as far as known.
        vars: what to tell with the join; empty while out.
        accepted_at: when the newest change was accepted.
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
        """True if there are vars, and Sailthru is not known to have just these."""
        return bool(self.vars) and digest(self.vars) != self.confirmed_vars

    @property
    def need(self) -> Need:
        """What Sailthru must hear for this membership to be as wanted.

        An exit of somebody who was never told *in* asks first: a write would create a profile that can be mailed.
        """
        if not self.desired:
            return {
                Confirmed.NEVER: Need.READ,
                Confirmed.IN: Need.LEAVE,
                Confirmed.OUT: Need.NOTHING,
                Confirmed.UNKNOWN: Need.LEAVE,
            }[self.confirmed]
        if self.confirmed is Confirmed.IN:
            return Need.VARS if self.has_new_vars else Need.NOTHING
        return Need.READ if self.confirmed is Confirmed.UNKNOWN else Need.JOIN


def digest(values: Mapping[str, object]) -> str:
    """A fingerprint of vars that does not depend on their order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
