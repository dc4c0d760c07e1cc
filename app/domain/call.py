"""Plans the request that brings a claimed member up to date."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from app.domain.membership import Confirmed, Membership, Need


@dataclass(frozen=True, slots=True)
class Pending:
    """A pending membership at the time of the claim, with its list."""

    list_name: str
    list_ready: bool
    membership: Membership

    @property
    def export_id(self) -> int:
        return self.membership.export_id


@dataclass(frozen=True, slots=True)
class Call:
    """One `/user` request with all pending changes of a member, or the read that must come first.

    Args:
        join, leave: list names.
        vars: the fields to write, of all covered memberships.
        covers: the exports whose memberships this call settles, each with the state that a success confirms.
        is_read: True if Sailthru must first be asked for the lists of the address.
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
        attempts: number of attempts for the pending changes, including this one.
        is_backfill: True if only a backfill made the member due. Live changes then go first.
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
        """The first request. It is planned once, because it is recorded before it leaves."""
        return plan(self.pending)

    @property
    def can_be_sent_now(self) -> bool:
        """True if no list has to be ensured before the first request."""
        lists = {*self.call.join, *self.call.leave}
        return self.call.is_read or all(p.list_ready for p in self.pending if p.list_name in lists)

    @property
    def is_erasure(self) -> bool:
        """True if the claim only completes an erasure. Its calls add no line to the timeline."""
        return all(p.membership.erasure is not None for p in self.pending)


def plan(pending: Iterable[Pending], lists: frozenset[str] | None = None, *, was_read: bool = False) -> Call:
    """Return the next request for a member, from all its pending memberships.

    Args:
        lists: the lists of the address in Sailthru; None if it has no profile. Used only if `was_read`.
        was_read: True if `lists` was just read, so that no second read is planned.
    """
    join: list[str] = []
    leave: list[str] = []
    values: dict[str, object] = {}
    covers: dict[int, Confirmed] = {}
    # The newest fields are merged last: if two exports fill one var, the newer value wins.
    for item in sorted(pending, key=lambda p: (p.membership.fields_at_ns or 0, p.export_id)):
        need = item.membership.need
        if need is Need.READ:
            if not was_read:
                return Call(is_read=True)
            need = _need_after_read(item, lists)
        if need is Need.JOIN:
            join.append(item.list_name)
        elif need is Need.LEAVE:
            leave.append(item.list_name)
        if need in (Need.JOIN, Need.VARS):
            values.update(item.membership.vars)
        covers[item.export_id] = Confirmed.IN if item.membership.desired else Confirmed.OUT
    return Call(join=tuple(join), leave=tuple(leave), vars=values, covers=covers)


def _need_after_read(item: Pending, lists: frozenset[str] | None) -> Need:
    is_on_list = lists is not None and item.list_name in lists
    if item.membership.desired:
        if not is_on_list:
            return Need.JOIN
        return Need.VARS if item.membership.has_new_vars else Need.NOTHING
    return Need.LEAVE if is_on_list else Need.NOTHING
