"""
The queue, which is the state itself: lease who is due, put requests on record, write back how they ended.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import BindParameter, Connection, Row, Select, and_, bindparam, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from app.domain.account import Room
from app.domain.export import ExportState
from app.domain.member import Call, Claim, Membership, Pending, Settled, Settlement, Told, plan
from app.domain.merge import Tally, settle_attempt
from app.store.due import next_due_at
from app.store.journal import Line, write_lines
from app.store.removal import Place, remove, remove_ended
from app.store.rows import membership_of, parts, save_memberships, save_tallies
from app.store.schema import BACKFILL, LIVE, exports, members, memberships

log = structlog.get_logger(__name__)

# Built once: building a statement costs more than running it.
_IDS: BindParameter[Any] = bindparam("b_ids", expanding=True)
_DUE = select(members.c.id).where(
    members.c.account == bindparam("b_account"),
    members.c.priority == bindparam("b_priority"),
    members.c.due_at <= bindparam("b_now"),
)


def _lease(due: Select[tuple[int]]) -> ReturningUpdate[tuple[int, str, int, int]]:
    return (
        update(members)
        .where(members.c.id.in_(due.limit(bindparam("b_limit")).with_for_update(skip_locked=True)))
        .values(lease=bindparam("b_lease"), due_at=bindparam("b_until"), attempts=members.c.attempts + 1)
        .returning(members.c.id, members.c.address, members.c.attempts, members.c.priority)
    )


_LEASE = _lease(_DUE.order_by(members.c.due_at))
_LEASE_NEWCOMER = _lease(
    _DUE.where(members.c.id.not_in(bindparam("b_failing", expanding=True))).order_by(members.c.due_at.desc())
)
_LET_GO = update(members).where(members.c.id.in_(_IDS)).values(due_at=None, lease=None, attempts=0)
_RENEW = update(members).where(members.c.id == bindparam("b_id")).values(due_at=bindparam("b_until"))
_GIVE_BACK = (
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=bindparam("b_due"), attempts=bindparam("b_attempts"), lease=None)
)
_LEASES = select(members.c.id, members.c.lease).where(members.c.id.in_(_IDS)).order_by(members.c.id).with_for_update()
_MEMBERSHIPS: Select[Any] = (
    select(memberships, members.c.address, exports.c.state, exports.c.list_name, exports.c.list_ready_at)
    .join(members, members.c.id == memberships.c.member_id)
    .join(exports, exports.c.id == memberships.c.export_id)
    .where(memberships.c.member_id.in_(_IDS))
    .order_by(memberships.c.member_id, memberships.c.export_id)
)
_PENDING = _MEMBERSHIPS.where(
    memberships.c.revision > memberships.c.told_revision, exports.c.state == ExportState.RUNNING
)
_ONE = and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export"))
_LISTS_IN_DOUBT = update(memberships).where(_ONE).values(told=Told.UNKNOWN, told_vars=None)
_VARS_IN_DOUBT = update(memberships).where(_ONE).values(told_vars=None)


@dataclass(frozen=True, slots=True)
class Begun:
    """
    A request that is about to leave: the claim it belongs to, what it will write, and when its lease ends.
    """

    claim: Claim
    call: Call
    until: datetime


def take(
    connection: Connection, account: str, *, room: Room, now: datetime, lease: int, until: datetime
) -> list[Claim]:
    """
    Lease members of an account that are due, as many as there is room for, and record their first requests.

    A member with nothing to tell is given back at once; what is being erased of it then goes.
    """
    rows: list[Row[Any]] = []
    # While leased, `due_at` is when the lease ends: a dead worker's members become due by themselves.
    values = {"b_account": account, "b_now": now, "b_lease": lease, "b_until": until}
    for statement, priority, most in _order(connection, account, room, now):
        limit = min(room.calls - len(rows), most)
        if limit > 0:
            only = {"b_failing": sorted(room.failing)} if statement is _LEASE_NEWCOMER else {}
            leased = connection.execute(statement, {**values, **only, "b_priority": priority, "b_limit": limit})
            rows += sorted(leased, key=lambda row: row.id)
    pending = _pending_of(connection, [row.id for row in rows])
    idle = [row.id for row in rows if row.id not in pending]
    if idle:
        connection.execute(_LET_GO, {"b_ids": idle})
        remove_ended(connection, idle)
    claims = [
        Claim(
            member_id=row.id,
            account=account,
            address=row.address,
            lease=lease,
            leased_until=until,
            attempts=row.attempts,
            pending=pending[row.id],
            call=plan(pending[row.id]),
            is_backfill=row.priority == BACKFILL,
        )
        for row in rows
        if row.id in pending
    ]
    _record(connection, [Begun(c, c.call, until) for c in claims if c.leaves_at_once], now)
    return claims


def begin(connection: Connection, begun: list[Begun], now: datetime) -> list[bool]:
    """
    Renew leases and record the requests that are about to leave; false for those whose lease was lost.
    """
    held = _still_held(connection, [one.claim for one in begun])
    ours = sorted((one for one in begun if one.claim.member_id in held), key=lambda one: one.claim.member_id)
    if ours:
        connection.execute(_RENEW, [{"b_id": one.claim.member_id, "b_until": one.until} for one in ours])
    _record(connection, ours, now)
    return [one.claim.member_id in held for one in begun]


def settle(connection: Connection, settlements: list[Settlement], now: datetime) -> list[Settled]:
    """
    Write back how attempts ended, against the revisions that were claimed, and end their leases.

    What is being erased goes once it is told or given up, and is counted nowhere.
    """
    tallies: dict[int, Tally] = defaultdict(Tally)
    held = _still_held(connection, [one.claim for one in settlements])
    ours = {one.claim.member_id: one for one in settlements if one.claim.member_id in held}
    changed: list[tuple[int, Membership]] = []
    ended: list[Place] = []
    waits: set[int] = set()
    for member_id, membership, state in _memberships_of(connection, held):
        settlement = ours[member_id]
        if any(p.export_id == membership.export_id for p in settlement.claim.pending):
            tally = tallies[membership.export_id] if membership.erasure is None else Tally()
            settle_attempt(settlement, membership, now, tally)
            changed.append((member_id, membership))
        if membership.erasure is not None and not membership.is_pending:
            ended.append(Place(member_id, membership.export_id))
            _tell_if_given_up(settlement, membership)
        if membership.is_pending and state == ExportState.RUNNING:
            waits.add(member_id)
    due = _give_back(connection, ours, waits, now)
    save_memberships(connection, changed)
    write_lines(connection, [_answered(one, now) for one in ours.values() if not one.claim.is_of_erased])
    remove(connection, ended)
    save_tallies(connection, tallies, now)
    return [Settled(is_ours=one.claim.member_id in held, due_at=due.get(one.claim.member_id)) for one in settlements]


def _order(
    connection: Connection, account: str, room: Room, now: datetime
) -> list[tuple[ReturningUpdate[tuple[int, str, int, int]], int, int]]:
    """
    Who is served first: of which priority, and how many at most.

    A probe is the newest of those who did not just fail, so that a newcomer need not wait behind all whose own calls
    can't work. Where there is none it is whoever has been due for longest: who failed as a probe goes behind them.
    """
    if not room.is_probe:
        return [(_LEASE, LIVE, room.calls), (_LEASE, BACKFILL, room.backfill_calls)]
    due_at = {priority: at for priority, at in next_due_at(connection, account).items() if at <= now}
    newcomers = [(_LEASE_NEWCOMER, priority, 1) for priority in (LIVE, BACKFILL) if priority in due_at]
    return newcomers + [(_LEASE, priority, 1) for priority in sorted(due_at, key=lambda p: due_at[p])]


def _pending_of(connection: Connection, member_ids: list[int]) -> dict[int, tuple[Pending, ...]]:
    pending: dict[int, list[Pending]] = defaultdict(list)
    for part in parts(member_ids):
        for row in connection.execute(_PENDING, {"b_ids": part}):
            one = Pending(row.list_name, row.list_ready_at is not None, membership_of(row, row.address))
            pending[row.member_id].append(one)
    return {member_id: tuple(ones) for member_id, ones in pending.items()}


def _still_held(connection: Connection, claims: Iterable[Claim]) -> set[int]:
    leases = {claim.member_id: claim.lease for claim in claims}
    held: set[int] = set()
    for part in parts(sorted(leases)):
        found = connection.execute(_LEASES, {"b_ids": part})
        held |= {row.id for row in found if row.lease == leases[row.id]}
    return held


def _memberships_of(connection: Connection, member_ids: set[int]) -> list[tuple[int, Membership, str]]:
    rows: list[tuple[int, Membership, str]] = []
    for part in parts(sorted(member_ids)):
        found = connection.execute(_MEMBERSHIPS, {"b_ids": part})
        rows += [(row.member_id, membership_of(row, row.address), row.state) for row in found]
    return rows


def _record(connection: Connection, begun: list[Begun], now: datetime) -> None:
    """
    The attempt is on record before the call: from here on, what Sailthru was told of its lists is unknown.
    """
    lists: list[dict[str, int]] = []
    values: list[dict[str, int]] = []
    lines: list[Line] = []
    for one in begun:
        call = one.call
        for pending in one.claim.pending:
            key = {"b_member": one.claim.member_id, "b_export": pending.export_id}
            if pending.list_name in (*call.join, *call.leave):
                lists.append(key)
            elif call.covers.get(pending.export_id) is Told.IN and pending.membership.has_new_vars:
                values.append(key)
        if (call.is_read or call.is_write) and not one.claim.is_of_erased:
            detail = {
                "attempt": one.claim.attempts,
                "read": call.is_read,
                "join": list(call.join),
                "leave": list(call.leave),
                "vars": sorted(call.vars),
            }
            lines.append(Line(now, one.claim.member_id, None, "called", detail))
    if lists:
        connection.execute(_LISTS_IN_DOUBT, lists)
    if values:
        connection.execute(_VARS_IN_DOUBT, values)
    write_lines(connection, lines)


def _give_back(
    connection: Connection, settlements: dict[int, Settlement], waits: set[int], now: datetime
) -> dict[int, datetime]:
    """
    End the leases; returns when those members are due that still have something to tell.
    """
    rows = []
    due = {member_id: settlements[member_id].retry_at or now for member_id in waits}
    for member_id, one in sorted(settlements.items()):
        is_retry = member_id in due and not one.is_whole
        rows.append(
            {
                "b_id": member_id,
                "b_due": due.get(member_id),
                "b_attempts": one.claim.attempts - (one.spent_at is None) if is_retry else 0,
            }
        )
    if rows:
        connection.execute(_GIVE_BACK, rows)
    return due


def _tell_if_given_up(settlement: Settlement, membership: Membership) -> None:
    code = settlement.dead.get(membership.export_id)
    if code is not None:
        # Nobody is left whom somebody could redrive.
        log.warning(
            "an erased person could not be taken off a list and is erased all the same",
            member=settlement.claim.member_id,
            export=membership.export_id,
            code=code,
        )


def _answered(settlement: Settlement, now: datetime) -> Line:
    detail: dict[str, object] = {"outcome": settlement.outcome}
    if settlement.retry_at is not None:
        detail["retry_at"] = settlement.retry_at.isoformat()
    if settlement.dead:
        detail["dead_exports"] = sorted(settlement.dead)
    return Line(now, settlement.claim.member_id, None, "answered", detail)
