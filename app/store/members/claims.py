"""Claims due members, and records each request before it leaves."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, and_, bindparam, literal_column, null, select, update

from app.domain.account import Capacity
from app.domain.call import Call, Claim, Pending
from app.domain.export import ExportState
from app.domain.membership import Confirmed
from app.store.database.dialect import lock_table
from app.store.database.prepared import Prepared
from app.store.database.statements import among
from app.store.history.journal import APPEND, Line
from app.store.members.due import next_due_at
from app.store.members.removal import remove_erased
from app.store.members.rows import membership_of
from app.store.schema import BACKFILL, LIVE, exports, members, memberships

_DUE = (
    select(members.c.id)
    .where(
        members.c.account == bindparam("b_account"),
        members.c.priority == bindparam("b_priority"),
        members.c.due_at <= bindparam("b_now"),
    )
    .order_by(members.c.due_at)
)


def _lease(due: Select[tuple[int]], *names: str) -> Prepared:
    # Materialized, so that it runs once. Otherwise a planner may run it again for each row of the UPDATE, and lease
    # more members than the limit. Members that other replicas have locked are skipped.
    free = due.limit(bindparam("b_limit", type_=Integer)).with_for_update(skip_locked=True).cte("due")
    leased = (
        update(members)
        .where(members.c.id.in_(select(free.prefix_with("MATERIALIZED").c.id)))
        .values(
            due_at=bindparam("b_until"),
            attempts=members.c.attempts + literal_column("1"),
            lease=bindparam("b_lease"),
        )
        .returning(members.c.id, members.c.address, members.c.attempts, members.c.priority)
    )
    return Prepared(leased, *names, "b_limit", "b_until", "b_lease")


_LEASE_OLDEST = _lease(_DUE, "b_account", "b_priority", "b_now")
_LEASE_NEWEST = _lease(
    _DUE.where(~among(members.c.id, "b_failing")).order_by(None).order_by(members.c.due_at.desc()),
    "b_account",
    "b_priority",
    "b_now",
    "b_failing",
)
_RELEASE_IDLE = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=null(), lease=null(), attempts=literal_column("0")),
    "b_id",
)
_RENEW = Prepared(
    update(members).where(members.c.id == bindparam("b_id")).values(due_at=bindparam("b_until")), "b_until", "b_id"
)
_LEASES = Prepared(
    select(members.c.id, members.c.lease).where(among(members.c.id, "ids")).order_by(members.c.id).with_for_update(),
    "ids",
)
_PENDING = Prepared(
    select(memberships, exports.c.list_name, exports.c.list_ready_at)
    .join(exports, exports.c.id == memberships.c.export_id)
    .where(
        among(memberships.c.member_id, "ids"),
        # This form does not match the index on pending memberships. PostgreSQL may take that index for empty, and then
        # read all of it for each member.
        memberships.c.revision - memberships.c.confirmed_revision > literal_column("0"),
        exports.c.state == literal_column(f"'{ExportState.RUNNING}'"),
    )
    .order_by(memberships.c.member_id, memberships.c.export_id),
    "ids",
)
_BY_KEY = and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export"))
_LIST_UNKNOWN = Prepared(
    update(memberships)
    .where(_BY_KEY)
    .values(confirmed=literal_column(f"'{Confirmed.UNKNOWN}'"), confirmed_vars=null()),
    "b_member",
    "b_export",
)
_VARS_UNKNOWN = Prepared(update(memberships).where(_BY_KEY).values(confirmed_vars=null()), "b_member", "b_export")


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request that is about to leave: its claim, its call, and the end of the renewed lease."""

    claim: Claim
    call: Call
    until: datetime


def take(
    connection: Connection, account: str, *, capacity: Capacity, now: datetime, lease: int, until: datetime
) -> list[Claim]:
    """Claim due members of an account, up to the capacity, and record their first requests.

    A member with nothing pending is released at once, and its erased memberships are deleted.

    Args:
        lease: a new random token for each call of this function.
    """
    rows = _lease_rows(connection, account, capacity=capacity, now=now, lease=lease, until=until)
    pending = _pending_or_release(connection, {row.id: row.address for row in rows})
    claims = [
        Claim(
            member_id=row.id,
            account=account,
            address=row.address,
            lease=lease,
            leased_until=until,
            attempts=row.attempts,
            pending=pending[row.id],
            is_backfill=row.priority == BACKFILL,
        )
        for row in rows
        if row.id in pending
    ]
    _record(connection, [OutgoingRequest(c, c.call, until) for c in claims if c.can_be_sent_now], now)
    return claims


def begin(connection: Connection, requests: list[OutgoingRequest], now: datetime) -> list[bool]:
    """Renew leases and record requests that are about to leave. Return False for each request whose lease was lost."""
    held = still_held(connection, [request.claim for request in requests])
    ours = sorted(
        (request for request in requests if request.claim.member_id in held),
        key=lambda request: request.claim.member_id,
    )
    _RENEW.run(connection, [(request.until, request.claim.member_id) for request in ours])
    _record(connection, ours, now)
    return [request.claim.member_id in held for request in requests]


def still_held(connection: Connection, claims: Iterable[Claim]) -> set[int]:
    """Lock the members of claims; return the ids of those whose lease was not lost."""
    leases = {claim.member_id: claim.lease for claim in claims}
    return {row.id for row in _LEASES.fetch(connection, sorted(leases)) if row.lease == leases[row.id]}


def _lease_rows(
    connection: Connection, account: str, *, capacity: Capacity, now: datetime, lease: int, until: datetime
) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    for statement, priority, most in _order(connection, account, capacity, now):
        limit = min(capacity.calls - len(rows), most)
        if limit > 0:
            failing = [sorted(capacity.failing)] if statement is _LEASE_NEWEST else []
            # `due_at` becomes the end of the lease, so that the members of a crashed worker are due again then.
            leased = statement.fetch(connection, account, priority, now, *failing, limit, until, lease)
            rows += sorted(leased, key=lambda row: row.id)
    return rows


def _order(connection: Connection, account: str, capacity: Capacity, now: datetime) -> list[tuple[Prepared, int, int]]:
    """Return the order of leasing: statement, priority, and maximum number of members.

    A probe leases the newest due member whose last call did not fail, so that members that always fail do not delay it.
    If there is none, it leases the oldest due member. A member that fails as a probe is due later than that.
    """
    if not capacity.is_probe:
        return [(_LEASE_OLDEST, LIVE, capacity.calls), (_LEASE_OLDEST, BACKFILL, capacity.backfill_calls)]
    due_at = {priority: at for priority, at in next_due_at(connection, account).items() if at <= now}
    newest = [(_LEASE_NEWEST, priority, 1) for priority in (LIVE, BACKFILL) if priority in due_at]
    return newest + [(_LEASE_OLDEST, priority, 1) for priority in sorted(due_at, key=lambda p: due_at[p])]


def _pending_or_release(connection: Connection, addresses: Mapping[int, str]) -> dict[int, tuple[Pending, ...]]:
    """Return the pending memberships of members, given with their addresses; release members that have none."""
    pending = _pending_of(connection, addresses)
    idle = [member_id for member_id in addresses if member_id not in pending]
    if idle:
        # Read again under the lock: an export that began to run meanwhile may have pending changes.
        lock_table(connection, exports, is_exclusive=False)
        pending |= _pending_of(connection, {member_id: addresses[member_id] for member_id in idle})
        idle = [member_id for member_id in idle if member_id not in pending]
        _RELEASE_IDLE.run(connection, [(member_id,) for member_id in idle])
        remove_erased(connection, idle)
    return pending


def _pending_of(connection: Connection, addresses: Mapping[int, str]) -> dict[int, tuple[Pending, ...]]:
    pending: dict[int, list[Pending]] = defaultdict(list)
    for row in _PENDING.fetch(connection, list(addresses)) if addresses else ():
        membership = membership_of(row, addresses[row.member_id])
        pending[row.member_id].append(Pending(row.list_name, row.list_ready_at is not None, membership))
    return {member_id: tuple(found) for member_id, found in pending.items()}


def _record(connection: Connection, requests: list[OutgoingRequest], now: datetime) -> None:
    """Record requests before they leave. From then on the confirmed state of their lists is unknown."""
    lists: list[tuple[int, int]] = []
    values: list[tuple[int, int]] = []
    lines: list[Line] = []
    for request in requests:
        call = request.call
        for pending in request.claim.pending:
            # Each key goes into only one of the two lists, because they are written one after the other.
            key = (request.claim.member_id, pending.export_id)
            if pending.list_name in (*call.join, *call.leave):
                lists.append(key)
            elif call.covers.get(pending.export_id) is Confirmed.IN and pending.membership.has_new_vars:
                values.append(key)
        if (call.is_read or call.is_write) and not request.claim.is_erasure:
            lines.append(Line(now, request.claim.member_id, None, "called", _detail(request)))
    _LIST_UNKNOWN.run(connection, lists)
    _VARS_UNKNOWN.run(connection, values)
    APPEND.run(connection, lines)


def _detail(request: OutgoingRequest) -> dict[str, object]:
    call = request.call
    return {
        "attempt": request.claim.attempts,
        "read": call.is_read,
        "join": list(call.join),
        "leave": list(call.leave),
        "vars": sorted(call.vars),
    }
