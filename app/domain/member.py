"""
Member: one address at one Sailthru account, the unit of work. Its memberships, one for each export, hold what is
wanted (what the newest change says) and what was told (what Sailthru last confirmed); the difference is the work.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.change import Move


class Told(StrEnum):
    """
    What Sailthru was last told of a membership.

    `unknown` from the moment a call leaves until its answer is settled: a leave is then always sent, a join only
    after a read.
    """

    NEVER = "never"
    IN = "in"
    OUT = "out"
    UNKNOWN = "unknown"


class Need(StrEnum):
    """
    What has to be said to Sailthru about one membership.
    """

    NOTHING = "nothing"
    JOIN = "join"
    LEAVE = "leave"
    VARS = "vars"
    READ = "read"


@dataclass(slots=True, kw_only=True)
class Telling:
    """
    How far a membership has been told: what the end of an attempt is decided by, and changes.

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
    told: Told = Told.NEVER
    told_revision: int = 0
    told_vars: str | None = None
    told_at: datetime | None = None
    dead_code: str | None = None
    dead_at: datetime | None = None
    first_failed_at: datetime | None = None
    erasure: str | None = None

    @property
    def is_pending(self) -> bool:
        """
        True while a change waits to be told.
        """
        return self.revision > self.told_revision


@dataclass(slots=True, kw_only=True)
class Membership(Telling):
    """
    One address in one export: a working copy of its row.

    Args:
        moved: the newest enter or exit; its `is_enter` is `wanted`. None before the first.
        fields_at_ns: message time of the newest fields; None while out.
        lytics_id: the Lytics user who entered this address, as far as known.
        vars: what to tell with the join; empty while out.
        accepted_at: when the newest change was accepted.
    """

    address: str
    wanted: bool = False
    moved: Move | None = None
    fields_at_ns: int | None = None
    lytics_id: str | None = None
    vars: Mapping[str, object] = field(default_factory=dict)
    accepted_at: datetime | None = None

    @property
    def has_new_vars(self) -> bool:
        """
        True if there are vars, and Sailthru is not known to have just these.
        """
        return bool(self.vars) and digest(self.vars) != self.told_vars

    @property
    def need(self) -> Need:
        """
        What Sailthru must hear for this membership to be as wanted.

        An exit of somebody who was never told *in* asks first: a write would create a profile that can be mailed.
        """
        if not self.wanted:
            return {
                Told.NEVER: Need.READ,
                Told.IN: Need.LEAVE,
                Told.OUT: Need.NOTHING,
                Told.UNKNOWN: Need.LEAVE,
            }[self.told]
        if self.told is Told.IN:
            return Need.VARS if self.has_new_vars else Need.NOTHING
        return Need.READ if self.told is Told.UNKNOWN else Need.JOIN


def digest(values: Mapping[str, object]) -> str:
    """
    A fingerprint of vars that does not depend on their order.
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Pending:
    """
    A membership as it stood when its member was claimed: what has to be told, and at which revision.
    """

    list_name: str
    list_ready: bool
    membership: Membership

    @property
    def export_id(self) -> int:
        """
        The export it belongs to.
        """
        return self.membership.export_id


@dataclass(frozen=True, slots=True)
class Call:
    """
    One `/user` request that carries all that is pending for a member, or the read that must come first.

    Args:
        join, leave: list names.
        vars: the fields to write, of all memberships told.
        covers: the exports whose memberships this call tells, with what they are told if it works.
        is_read: ask Sailthru which lists the person is on before anything is written.
    """

    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    vars: Mapping[str, object] = field(default_factory=dict)
    covers: Mapping[int, Told] = field(default_factory=dict)
    is_read: bool = False

    @property
    def is_write(self) -> bool:
        """
        True if there is something to write; a call that is neither read nor write settles without a request.
        """
        return bool(self.join or self.leave or self.vars)


def plan(pending: Iterable[Pending], lists: frozenset[str] | None = None, *, was_read: bool = False) -> Call:
    """
    The next request for a member, from all that is pending for it.

    Args:
        lists: the lists that Sailthru says the person is on, None for a stranger; looked at only if `was_read`.
        was_read: Sailthru was just asked, so no second read is planned.
    """
    join: list[str] = []
    leave: list[str] = []
    values: dict[str, object] = {}
    covers: dict[int, Told] = {}
    # The newest fields are merged last: where two exports fill one var, the newer value stays.
    for one in sorted(pending, key=lambda p: (p.membership.fields_at_ns or 0, p.export_id)):
        need = one.membership.need
        if need is Need.READ:
            if not was_read:
                return Call(is_read=True)
            need = _need_after_read(one, lists)
        if need is Need.JOIN:
            join.append(one.list_name)
        elif need is Need.LEAVE:
            leave.append(one.list_name)
        if need in (Need.JOIN, Need.VARS):
            values.update(one.membership.vars)
        covers[one.export_id] = Told.IN if one.membership.wanted else Told.OUT
    return Call(join=tuple(join), leave=tuple(leave), vars=values, covers=covers)


def _need_after_read(one: Pending, lists: frozenset[str] | None) -> Need:
    is_on = lists is not None and one.list_name in lists
    if one.membership.wanted:
        if not is_on:
            return Need.JOIN
        return Need.VARS if one.membership.has_new_vars else Need.NOTHING
    return Need.LEAVE if is_on else Need.NOTHING


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A member that one worker holds: nobody else calls for it until `leased_until`.

    Args:
        lease: a number drawn for this claim; whoever does not know it can't settle.
        attempts: made so far for what is pending, this one included.
        call: the first request to make, already on record.
        is_backfill: only a backfill asks for it, so it leaves room for live changes.
    """

    member_id: int
    account: str
    address: str = field(repr=False)
    lease: int
    leased_until: datetime
    attempts: int
    pending: tuple[Pending, ...] = field(repr=False)
    call: Call = field(repr=False)
    is_backfill: bool = False

    @property
    def leaves_at_once(self) -> bool:
        """
        True if the first request needs nothing before it: no list has to be ensured.
        """
        lists = {*self.call.join, *self.call.leave}
        return self.call.is_read or all(p.list_ready for p in self.pending if p.list_name in lists)

    @property
    def is_of_erased(self) -> bool:
        """
        True if it only ends an erasure: of such a call nothing is written into a timeline.
        """
        return all(one.membership.erasure is not None for one in self.pending)


@dataclass(frozen=True, slots=True)
class Settlement:
    """
    How an attempt ended, to be written back against the revisions that were claimed.

    An export of the claim that is in none of the three keeps what it was told before: nothing was done for it.

    Args:
        told: the exports that are settled, with what they were told.
        unknown: the exports whose call may or may not have been carried out.
        dead: the exports whose change is given up, with the code that says why.
        outcome: one fixed word for the timeline and the metrics: `ok`, an error number, or a word of ours.
        retry_at: when to call again for what is still pending, also for a newer change; None for at once.
        spent_at: when the attempt failed, by the account's running clock, if it counts against the retry window.
    """

    claim: Claim
    outcome: str
    told: Mapping[int, Told] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    dead: Mapping[int, str] = field(default_factory=dict)
    retry_at: datetime | None = None
    spent_at: datetime | None = None

    @property
    def is_whole(self) -> bool:
        """
        True if nothing that was claimed waits any more.
        """
        return all(one.export_id in self.told or one.export_id in self.dead for one in self.claim.pending)


@dataclass(frozen=True, slots=True)
class Settled:
    """
    What became of a settlement.

    Args:
        is_ours: false if the lease was lost meanwhile; then nothing was recorded.
        due_at: when the member is to be called again; None if nothing is pending any more.
    """

    is_ours: bool
    due_at: datetime | None = None
