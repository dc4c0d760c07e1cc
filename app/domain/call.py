"""TODO."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.membership import Confirmed, Membership, Need


@dataclass(frozen=True, slots=True)
class Pending:
    """A membership as it stood when its member was claimed: what has to be told, and at which revision."""

    list_name: str
    list_ready: bool
    membership: Membership

    @property
    def export_id(self) -> int:
        """The export it belongs to."""
        return self.membership.export_id


@dataclass(frozen=True, slots=True)
class Call:
    """One `/user` request that carries all that is pending for a member, or the read that must come first.

    Args:
        join, leave: list names.
        vars: the fields to write, of all memberships told.
        covers: the exports whose memberships this call tells, with what they are told if it works.
        is_read: ask Sailthru which lists the person is on before anything is written.
    """

    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    vars: Mapping[str, object] = field(default_factory=dict)
    covers: Mapping[int, Confirmed] = field(default_factory=dict)
    is_read: bool = False

    @property
    def is_write(self) -> bool:
        """True if there is something to write; a call that is neither read nor write settles without a request."""
        return bool(self.join or self.leave or self.vars)


def plan(pending: Iterable[Pending], lists: frozenset[str] | None = None, *, was_read: bool = False) -> Call:
    """The next request for a member, from all that is pending for it.

    Args:
        lists: the lists that Sailthru says the person is on, None for a stranger; looked at only if `was_read`.
        was_read: Sailthru was just asked, so no second read is planned.
    """
    join: list[str] = []
    leave: list[str] = []
    values: dict[str, object] = {}
    covers: dict[int, Confirmed] = {}
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
        covers[one.export_id] = Confirmed.IN if one.membership.desired else Confirmed.OUT
    return Call(join=tuple(join), leave=tuple(leave), vars=values, covers=covers)


def _need_after_read(one: Pending, lists: frozenset[str] | None) -> Need:
    is_on = lists is not None and one.list_name in lists
    if one.membership.desired:
        if not is_on:
            return Need.JOIN
        return Need.VARS if one.membership.has_new_vars else Need.NOTHING
    return Need.LEAVE if is_on else Need.NOTHING


@dataclass(frozen=True, slots=True)
class Claim:
    """A member that one worker holds: nobody else calls for it until `leased_until`.

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
        """True if the first request needs nothing before it: no list has to be ensured."""
        lists = {*self.call.join, *self.call.leave}
        return self.call.is_read or all(p.list_ready for p in self.pending if p.list_name in lists)

    @property
    def is_of_erased(self) -> bool:
        """True if it only ends an erasure: of such a call nothing is written into a timeline."""
        return all(one.membership.erasure is not None for one in self.pending)
