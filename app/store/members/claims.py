"""The queue, which is the state itself: lease who is due, put requests on record, write back how they ended."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import structlog
from sqlalchemy import Connection, Integer, Row, Select, and_, bindparam, literal_column, null, select, update

from app.domain.account import Capacity
from app.domain.call import Call, Claim, Pending, plan
from app.domain.counts import Tally
from app.domain.export import ExportState
from app.domain.membership import Confirmation, Confirmed
from app.domain.settlement import Settled, Settlement, settle_attempt
from app.store.database.dialect import lock_table
from app.store.database.prepared import Prepared
from app.store.database.statements import among
from app.store.history.journal import APPEND, Line
from app.store.members.due import next_due_at
from app.store.members.removal import Place, remove, remove_ended
from app.store.members.rows import membership_of, save_tallies
from app.store.schema import BACKFILL, LIVE, exports, members, memberships

log = structlog.get_logger(__name__)

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
    # By itself, so that it is looked for once: within the UPDATE a planner may do so again for each row, and lease more
    # than the limit. What other replicas hold is left out.
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


_LEASE = _lease(_DUE, "b_account", "b_priority", "b_now")
_LEASE_NEWCOMER = _lease(
    _DUE.where(~among(members.c.id, "b_failing")).order_by(None).order_by(members.c.due_at.desc()),
    "b_account",
    "b_priority",
    "b_now",
    "b_failing",
)
_LET_GO = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=null(), lease=null(), attempts=literal_column("0")),
    "b_id",
)
_RENEW = Prepared(
    update(members).where(members.c.id == bindparam("b_id")).values(due_at=bindparam("b_until")), "b_until", "b_id"
)
_GIVE_BACK = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=bindparam("b_due"), attempts=bindparam("b_attempts"), lease=null()),
    "b_due",
    "b_attempts",
    "b_id",
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
        # Not as the index of who is pending has it: PostgreSQL, for which that was empty when it looked last, would
        # look through all of it for each member, whatever has come since.
        memberships.c.revision - memberships.c.confirmed_revision > literal_column("0"),
        exports.c.state == literal_column(f"'{ExportState.RUNNING}'"),
    )
    .order_by(memberships.c.member_id, memberships.c.export_id),
    "ids",
)
# All that the end of an attempt changes of a membership, and what it reads of it.
_TELLING = (
    "confirmed",
    "confirmed_revision",
    "confirmed_vars",
    "confirmed_at",
    "dead_code",
    "dead_at",
    "first_failed_at",
)
_READ = ("export_id", "revision", "erasure", *_TELLING)
_changed = attrgetter(*_TELLING)
_TELLINGS = Prepared(
    select(memberships.c.member_id, exports.c.state, *(memberships.c[name] for name in _READ))
    .join(exports, exports.c.id == memberships.c.export_id)
    .where(among(memberships.c.member_id, "ids"))
    .order_by(memberships.c.member_id, memberships.c.export_id),
    "ids",
)
_ONE = and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export"))
_LISTS_IN_DOUBT = Prepared(
    update(memberships).where(_ONE).values(confirmed=literal_column(f"'{Confirmed.UNKNOWN}'"), confirmed_vars=null()),
    "b_member",
    "b_export",
)
_VARS_IN_DOUBT = Prepared(update(memberships).where(_ONE).values(confirmed_vars=null()), "b_member", "b_export")
_SETTLE = Prepared(
    update(memberships).where(_ONE).values({name: bindparam(f"b_{name}") for name in _TELLING}),
    *(f"b_{name}" for name in _TELLING),
    "b_member",
    "b_export",
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is about to leave: the claim it belongs to, what it will write, and when its lease ends."""

    claim: Claim
    call: Call
    until: datetime


def take(
    connection: Connection, account: str, *, room: Capacity, now: datetime, lease: int, until: datetime
) -> list[Claim]:
    """Lease members of an account that are due, as many as there is room for, and record their first requests.

    A member with nothing to tell is given back at once; what is being erased of it then goes.
    """
    rows: list[Row[Any]] = []
    for statement, priority, most in _order(connection, account, room, now):
        limit = min(room.calls - len(rows), most)
        if limit > 0:
            only = [sorted(room.failing)] if statement is _LEASE_NEWCOMER else []
            # While leased, `due_at` is when the lease ends: a dead worker's members become due by themselves.
            leased = statement.fetch(connection, account, priority, now, *only, limit, until, lease)
            rows += sorted(leased, key=lambda row: row.id)
    addresses = {row.id: row.address for row in rows}
    pending = _pending_of(connection, addresses)
    if idle := [row.id for row in rows if row.id not in pending]:
        # Only now that nobody can set an export running meanwhile: who then waits is not let go.
        lock_table(connection, exports, is_exclusive=False)
        pending |= _pending_of(connection, {member_id: addresses[member_id] for member_id in idle})
        idle = [member_id for member_id in idle if member_id not in pending]
        _LET_GO.run(connection, [(member_id,) for member_id in idle])
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
    """Renew leases and record the requests that are about to leave; false for those whose lease was lost."""
    held = _still_held(connection, [one.claim for one in begun])
    ours = sorted((one for one in begun if one.claim.member_id in held), key=lambda one: one.claim.member_id)
    _RENEW.run(connection, [(one.until, one.claim.member_id) for one in ours])
    _record(connection, ours, now)
    return [one.claim.member_id in held for one in begun]


def settle(connection: Connection, settlements: list[Settlement], now: datetime) -> list[Settled]:
    """Write back how attempts ended, against the revisions that were claimed, and end their leases.

    What is being erased goes once it is told or given up, and is counted nowhere.
    """
    tallies: dict[int, Tally] = defaultdict(Tally)
    # Not while somebody sets an export running: else a member could stay without a due time.
    lock_table(connection, exports, is_exclusive=False)
    held = _still_held(connection, [one.claim for one in settlements])
    ours = {one.claim.member_id: one for one in settlements if one.claim.member_id in held}
    changed: list[tuple[int, Confirmation]] = []
    ended: list[Place] = []
    waits: set[int] = set()
    for member_id, telling, state in _tellings(connection, held):
        settlement = ours[member_id]
        if any(p.export_id == telling.export_id for p in settlement.claim.pending):
            tally = tallies[telling.export_id] if telling.erasure is None else Tally()
            settle_attempt(settlement, telling, now, tally)
            changed.append((member_id, telling))
        if telling.erasure is not None and not telling.is_pending:
            ended.append(Place(member_id, telling.export_id))
            _tell_if_given_up(settlement, telling)
        if telling.is_pending and state == ExportState.RUNNING:
            waits.add(member_id)
    due = {member_id: ours[member_id].retry_at or now for member_id in waits}
    lines = [_answered(one, now) for one in ours.values() if not one.claim.is_of_erased]
    _GIVE_BACK.run(connection, _given_back(ours, due))
    _SETTLE.run(connection, _rows_of(changed))
    APPEND.run(connection, lines)
    remove(connection, ended)
    save_tallies(connection, tallies, now)
    return [Settled(is_ours=one.claim.member_id in held, due_at=due.get(one.claim.member_id)) for one in settlements]


def _order(connection: Connection, account: str, room: Capacity, now: datetime) -> list[tuple[Prepared, int, int]]:
    """Who is served first: of which priority, and how many at most.

    A probe is the newest of those who did not just fail, so that a newcomer need not wait behind all whose own calls
    can't work. Where there is none it is whoever has been due for longest: who failed as a probe goes behind them.
    """
    if not room.is_probe:
        return [(_LEASE, LIVE, room.calls), (_LEASE, BACKFILL, room.backfill_calls)]
    due_at = {priority: at for priority, at in next_due_at(connection, account).items() if at <= now}
    newcomers = [(_LEASE_NEWCOMER, priority, 1) for priority in (LIVE, BACKFILL) if priority in due_at]
    return newcomers + [(_LEASE, priority, 1) for priority in sorted(due_at, key=lambda p: due_at[p])]


def _pending_of(connection: Connection, addresses: Mapping[int, str]) -> dict[int, tuple[Pending, ...]]:
    """What is pending for members that are given with their addresses."""
    pending: dict[int, list[Pending]] = defaultdict(list)
    for row in _PENDING.fetch(connection, list(addresses)) if addresses else ():
        membership = membership_of(row, addresses[row.member_id])
        pending[row.member_id].append(Pending(row.list_name, row.list_ready_at is not None, membership))
    return {member_id: tuple(ones) for member_id, ones in pending.items()}


def _still_held(connection: Connection, claims: Iterable[Claim]) -> set[int]:
    leases = {claim.member_id: claim.lease for claim in claims}
    return {row.id for row in _LEASES.fetch(connection, sorted(leases)) if row.lease == leases[row.id]}


def _tellings(connection: Connection, member_ids: set[int]) -> list[tuple[int, Confirmation, str]]:
    """Of all memberships that members have, with their members and the states of their exports."""
    found = []
    for row in _TELLINGS.fetch(connection, sorted(member_ids)):
        member_id, state, *values = tuple(row)
        telling = Confirmation(**dict(zip(_READ, values, strict=True)))
        telling.confirmed = Confirmed(telling.confirmed)
        found.append((member_id, telling, state))
    return found


def _record(connection: Connection, begun: list[Begun], now: datetime) -> None:
    """The attempt is on record before the call: from here on, what Sailthru was told of its lists is unknown."""
    lists: list[tuple[int, int]] = []
    values: list[tuple[int, int]] = []
    lines: list[Line] = []
    for one in begun:
        call = one.call
        for pending in one.claim.pending:
            # Never among both: they are written together.
            key = (one.claim.member_id, pending.export_id)
            if pending.list_name in (*call.join, *call.leave):
                lists.append(key)
            elif call.covers.get(pending.export_id) is Confirmed.IN and pending.membership.has_new_vars:
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
    _LISTS_IN_DOUBT.run(connection, lists)
    _VARS_IN_DOUBT.run(connection, values)
    APPEND.run(connection, lines)


def _given_back(settlements: Mapping[int, Settlement], due: Mapping[int, datetime]) -> list[tuple[object, ...]]:
    """What ends the leases of members, of whom some are due again."""
    rows: list[tuple[object, ...]] = []
    for member_id, one in sorted(settlements.items()):
        is_retry = member_id in due and not one.is_whole
        attempts = one.claim.attempts - (one.spent_at is None) if is_retry else 0
        rows.append((due.get(member_id), attempts, member_id))
    return rows


def _rows_of(changed: Iterable[tuple[int, Confirmation]]) -> list[tuple[object, ...]]:
    return [(*_changed(telling), member_id, telling.export_id) for member_id, telling in changed]


def _tell_if_given_up(settlement: Settlement, telling: Confirmation) -> None:
    code = settlement.dead.get(telling.export_id)
    if code is not None:
        # Nobody is left whom somebody could redrive.
        log.warning(
            "an erased person could not be taken off a list and is erased all the same",
            member=settlement.claim.member_id,
            export=telling.export_id,
            code=code,
        )


def _answered(settlement: Settlement, now: datetime) -> Line:
    detail: dict[str, object] = {"outcome": settlement.outcome}
    if settlement.retry_at is not None:
        detail["retry_at"] = settlement.retry_at.isoformat()
    if settlement.dead:
        detail["dead_exports"] = sorted(settlement.dead)
    return Line(now, settlement.claim.member_id, None, "answered", detail)
