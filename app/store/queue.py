"""
The queue, which is the state itself: lease who is due, put requests on record, write back how they ended.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, Select, and_, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.account import Room
from app.domain.export import ExportState
from app.domain.member import Call, Claim, Membership, Pending, Settled, Settlement, Told, plan
from app.domain.merge import Tally, settle_attempt
from app.store.journal import Line, write_lines
from app.store.removal import Place, remove, remove_ended
from app.store.rows import membership_of, parts, save_memberships, save_tallies
from app.store.schema import BACKFILL, LIVE, exports, members, memberships

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """
    A request that is about to leave: the claim it belongs to, what it will write, and when its lease ends.
    """

    claim: Claim
    call: Call
    until: datetime


async def take(
    connection: AsyncConnection, account: str, *, room: Room, now: datetime, lease: int, until: datetime
) -> list[Claim]:
    """
    Lease members of an account that are due, as many as there is room for, and record their first requests.

    A member with nothing to tell is given back at once; what is being erased of it then goes.
    """
    rows: list[Row[Any]] = []
    for priority, most in await _order(connection, account, room, now):
        limit = min(room.calls - len(rows), most)
        if limit > 0:
            due = _due(account, priority, now, limit=limit)
            rows += await _lease(connection, due, lease, until)
    pending = await _pending_of(connection, [row.id for row in rows])
    idle = [row.id for row in rows if row.id not in pending]
    if idle:
        await connection.execute(
            update(members).where(members.c.id.in_(idle)).values(due_at=None, lease=None, attempts=0)
        )
        await remove_ended(connection, idle)
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
        )
        for row in rows
        if row.id in pending
    ]
    await _record(connection, [Begun(c, c.call, until) for c in claims if c.leaves_at_once], now)
    return claims


async def begin(connection: AsyncConnection, begun: list[Begun], now: datetime) -> list[bool]:
    """
    Renew leases and record the requests that are about to leave; false for those whose lease was lost.
    """
    held = await _still_held(connection, [one.claim for one in begun])
    ours = sorted((one for one in begun if one.claim.member_id in held), key=lambda one: one.claim.member_id)
    if ours:
        await connection.execute(
            update(members).where(members.c.id == bindparam("b_id")).values(due_at=bindparam("b_until")),
            [{"b_id": one.claim.member_id, "b_until": one.until} for one in ours],
        )
    await _record(connection, ours, now)
    return [one.claim.member_id in held for one in begun]


async def settle(connection: AsyncConnection, settlements: list[Settlement], now: datetime) -> list[Settled]:
    """
    Write back how attempts ended, against the revisions that were claimed, and end their leases.

    What is being erased goes once it is told or given up, and is counted nowhere.
    """
    tallies: dict[int, Tally] = defaultdict(Tally)
    held = await _still_held(connection, [one.claim for one in settlements])
    ours = {one.claim.member_id: one for one in settlements if one.claim.member_id in held}
    changed: list[tuple[int, Membership]] = []
    ended: list[Place] = []
    waits: set[int] = set()
    for member_id, membership, state in await _memberships_of(connection, held):
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
    due = await _give_back(connection, ours, waits, now)
    await save_memberships(connection, changed)
    await write_lines(connection, [_answered(one, now) for one in ours.values() if not one.claim.is_of_erased])
    await remove(connection, ended)
    await save_tallies(connection, tallies, now)
    return [Settled(is_ours=one.claim.member_id in held, due_at=due.get(one.claim.member_id)) for one in settlements]


async def _order(connection: AsyncConnection, account: str, room: Room, now: datetime) -> list[tuple[int, int]]:
    """
    Which priority is served first, and how many of it at most. A probe is whoever has been due for longest, of any
    priority: who failed as one goes behind all others.
    """
    if not room.is_probe:
        return [(LIVE, room.calls), (BACKFILL, room.backfill_calls)]
    due_at = {
        priority: await connection.scalar(
            select(func.min(members.c.due_at)).where(
                members.c.account == account, members.c.priority == priority, members.c.due_at <= now
            )
        )
        for priority in (LIVE, BACKFILL)
    }
    waiting = [priority for priority, at in due_at.items() if at is not None]
    return [(priority, 1) for priority in sorted(waiting, key=lambda p: due_at[p])]


def _due(account: str, priority: int, now: datetime, *, limit: int) -> Select[tuple[int]]:
    return (
        select(members.c.id)
        .where(members.c.account == account, members.c.priority == priority, members.c.due_at <= now)
        .order_by(members.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


async def _lease(connection: AsyncConnection, due: Select[tuple[int]], lease: int, until: datetime) -> list[Row[Any]]:
    """
    Lease members that are due. While leased, `due_at` is when the lease ends: a dead worker's members become due
    again by themselves.
    """
    found = await connection.execute(
        update(members)
        .where(members.c.id.in_(due))
        .values(lease=lease, due_at=until, attempts=members.c.attempts + 1)
        .returning(members.c.id, members.c.address, members.c.attempts)
    )
    return sorted(found, key=lambda row: row.id)


async def _pending_of(connection: AsyncConnection, member_ids: list[int]) -> dict[int, tuple[Pending, ...]]:
    pending: dict[int, list[Pending]] = defaultdict(list)
    for part in parts(member_ids):
        found = await connection.execute(
            select(memberships, members.c.address, exports.c.list_name, exports.c.list_ready_at)
            .join(members, members.c.id == memberships.c.member_id)
            .join(exports, exports.c.id == memberships.c.export_id)
            .where(
                memberships.c.member_id.in_(part),
                memberships.c.revision > memberships.c.told_revision,
                exports.c.state == ExportState.RUNNING,
            )
            .order_by(memberships.c.member_id, memberships.c.export_id)
        )
        for row in found:
            one = Pending(row.list_name, row.list_ready_at is not None, membership_of(row, row.address))
            pending[row.member_id].append(one)
    return {member_id: tuple(ones) for member_id, ones in pending.items()}


async def _still_held(connection: AsyncConnection, claims: Iterable[Claim]) -> set[int]:
    leases = {claim.member_id: claim.lease for claim in claims}
    held: set[int] = set()
    for part in parts(sorted(leases)):
        found = await connection.execute(
            select(members.c.id, members.c.lease).where(members.c.id.in_(part)).order_by(members.c.id).with_for_update()
        )
        held |= {row.id for row in found if row.lease == leases[row.id]}
    return held


async def _memberships_of(connection: AsyncConnection, member_ids: set[int]) -> list[tuple[int, Membership, str]]:
    rows: list[tuple[int, Membership, str]] = []
    for part in parts(sorted(member_ids)):
        statement: Select[Any] = (
            select(memberships, members.c.address, exports.c.state)
            .join(members, members.c.id == memberships.c.member_id)
            .join(exports, exports.c.id == memberships.c.export_id)
            .where(memberships.c.member_id.in_(part))
        )
        rows += [(r.member_id, membership_of(r, r.address), r.state) for r in await connection.execute(statement)]
    return rows


async def _record(connection: AsyncConnection, begun: list[Begun], now: datetime) -> None:
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
    where = and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export"))
    if lists:
        await connection.execute(update(memberships).where(where).values(told=Told.UNKNOWN, told_vars=None), lists)
    if values:
        await connection.execute(update(memberships).where(where).values(told_vars=None), values)
    await write_lines(connection, lines)


async def _give_back(
    connection: AsyncConnection, settlements: dict[int, Settlement], waits: set[int], now: datetime
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
        await connection.execute(
            update(members)
            .where(members.c.id == bindparam("b_id"))
            .values(due_at=bindparam("b_due"), attempts=bindparam("b_attempts"), lease=None),
            rows,
        )
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
