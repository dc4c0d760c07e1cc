"""The request that brings a claimed member up to date."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from app.domain.membership import Confirmed, Membership, Need


@dataclass(frozen=True, slots=True)
class Pending:
    """A pending membership as it was when its member was claimed, and the list it is about."""

    list_name: str
    list_ready: bool
    membership: Membership

    @property
    def export_id(self) -> int:
        return self.membership.export_id


@dataclass(frozen=True, slots=True)
class Call:
    """One `/user` request that carries all that is pending for a member, or the read that must come first.

    Args:
        join, leave: list names.
        vars: the fields to write, of all memberships that are covered.
        covers: the exports whose memberships this call settles, with what is confirmed if it works.
        is_read: ask Sailthru which lists the address is on before anything is written.
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


@dataclass(frozen=True)
class Claim:
    """A member that one worker holds: no other worker calls for it until `leased_until`.

    Args:
        lease: a random token that no earlier claim of this member had; only its holder can settle.
        attempts: made so far for what is pending, this one included.
        is_backfill: only a backfill asks for it, so it leaves room for live changes.
    """

    member_id: int
    account: str
    address: str = field(repr=False)
    lease: int
    leased_until: datetime
    attempts: int
    pending: tuple[Pending, ...] = field(repr=False)
    is_backfill: bool = False

    @cached_property
    def call(self) -> Call:
        """The first request to make; planned once, since it is recorded before it leaves."""
        return plan(self.pending)

    @property
    def leaves_at_once(self) -> bool:
        """True if no list has to be ensured before the first request."""
        lists = {*self.call.join, *self.call.leave}
        return self.call.is_read or all(p.list_ready for p in self.pending if p.list_name in lists)

    @property
    def is_of_erased(self) -> bool:
        """True if the claim only ends an erasure: its calls leave no line in the timeline."""
        return all(one.membership.erasure is not None for one in self.pending)


def plan(pending: Iterable[Pending], lists: frozenset[str] | None = None, *, was_read: bool = False) -> Call:
    """Return the next request for a member, from all that is pending for it.

    Args:
        lists: the lists that Sailthru says the address is on, None without a profile; used only if `was_read`.
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
    is_on_list = lists is not None and one.list_name in lists
    if one.membership.desired:
        if not is_on_list:
            return Need.JOIN
        return Need.VARS if one.membership.has_new_vars else Need.NOTHING
    return Need.LEAVE if is_on_list else Need.NOTHING
