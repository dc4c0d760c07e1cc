"""Settles claims: records how attempts ended, and releases the members."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import attrgetter

import structlog
from sqlalchemy import Connection, and_, bindparam, null, select, update

from app.domain.counts import Tally
from app.domain.export import ExportState
from app.domain.membership import Confirmation, Confirmed
from app.domain.settlement import Settled, Settlement, settle_attempt
from app.store.database.dialect import lock_table
from app.store.database.prepared import Prepared
from app.store.database.statements import among
from app.store.history.journal import APPEND, Line
from app.store.members.claims import still_held
from app.store.members.removal import Place, remove
from app.store.members.rows import save_tallies
from app.store.schema import exports, members, memberships

log = structlog.get_logger(__name__)

# The columns of a membership that the end of an attempt changes, and the columns that it reads.
_CHANGED = (
    "confirmed",
    "confirmed_revision",
    "confirmed_vars",
    "confirmed_at",
    "dead_code",
    "dead_at",
    "first_failed_at",
)
_READ = ("export_id", "revision", "erasure", *_CHANGED)
_changed_values = attrgetter(*_CHANGED)
_CONFIRMATIONS = Prepared(
    select(memberships.c.member_id, exports.c.state, *(memberships.c[name] for name in _READ))
    .join(exports, exports.c.id == memberships.c.export_id)
    .where(among(memberships.c.member_id, "ids"))
    .order_by(memberships.c.member_id, memberships.c.export_id),
    "ids",
)
_SAVE = Prepared(
    update(memberships)
    .where(and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export")))
    .values({name: bindparam(f"b_{name}") for name in _CHANGED}),
    *(f"b_{name}" for name in _CHANGED),
    "b_member",
    "b_export",
)
_RELEASE = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=bindparam("b_due"), attempts=bindparam("b_attempts"), lease=null()),
    "b_due",
    "b_attempts",
    "b_id",
)


def settle(connection: Connection, settlements: list[Settlement], now: datetime) -> list[Settled]:
    """Record how attempts ended against the claimed revisions, and end their leases.

    An erased membership is deleted once it is confirmed or given up, and is not counted.
    """
    tallies: dict[int, Tally] = defaultdict(Tally)
    # The lock keeps exports from starting to run meanwhile. Otherwise a member could stay without a due time.
    lock_table(connection, exports, is_exclusive=False)
    held = still_held(connection, [settlement.claim for settlement in settlements])
    ours = {settlement.claim.member_id: settlement for settlement in settlements if settlement.claim.member_id in held}
    changed: list[tuple[int, Confirmation]] = []
    ended: list[Place] = []
    still_pending: set[int] = set()
    for member_id, confirmation, state in _confirmations(connection, held):
        settlement = ours[member_id]
        if any(p.export_id == confirmation.export_id for p in settlement.claim.pending):
            tally = tallies[confirmation.export_id] if confirmation.erasure is None else Tally()
            settle_attempt(settlement, confirmation, now, tally)
            changed.append((member_id, confirmation))
        if confirmation.erasure is not None and not confirmation.is_pending:
            ended.append(Place(member_id, confirmation.export_id))
            _warn_if_given_up(settlement, confirmation)
        if confirmation.is_pending and state == ExportState.RUNNING:
            still_pending.add(member_id)
    due = {member_id: ours[member_id].retry_at or now for member_id in still_pending}
    _RELEASE.run(connection, _release_rows(ours, due))
    _SAVE.run(connection, _rows_of(changed))
    APPEND.run(connection, [_line(settlement, now) for settlement in ours.values() if not settlement.claim.is_erasure])
    remove(connection, ended)
    save_tallies(connection, tallies, now)
    return [
        Settled(is_ours=settlement.claim.member_id in held, due_at=due.get(settlement.claim.member_id))
        for settlement in settlements
    ]


def _confirmations(connection: Connection, member_ids: set[int]) -> list[tuple[int, Confirmation, str]]:
    """Return all memberships of members, each with its member id and the state of its export."""
    found = []
    for row in _CONFIRMATIONS.fetch(connection, sorted(member_ids)):
        member_id, state, *values = tuple(row)
        confirmation = Confirmation(**dict(zip(_READ, values, strict=True)))
        confirmation.confirmed = Confirmed(confirmation.confirmed)
        found.append((member_id, confirmation, state))
    return found


def _release_rows(settlements: Mapping[int, Settlement], due: Mapping[int, datetime]) -> list[tuple[object, ...]]:
    """Return the rows that end the leases of members and set their next due times."""
    rows: list[tuple[object, ...]] = []
    for member_id, settlement in sorted(settlements.items()):
        is_retry = member_id in due and not settlement.is_whole
        attempts = settlement.claim.attempts - (settlement.spent_at is None) if is_retry else 0
        rows.append((due.get(member_id), attempts, member_id))
    return rows


def _rows_of(changed: Iterable[tuple[int, Confirmation]]) -> list[tuple[object, ...]]:
    return [(*_changed_values(confirmation), member_id, confirmation.export_id) for member_id, confirmation in changed]


def _warn_if_given_up(settlement: Settlement, confirmation: Confirmation) -> None:
    code = settlement.dead.get(confirmation.export_id)
    if code is not None:
        # The row is deleted, so there is no dead letter to redrive.
        log.warning(
            "erased member could not be removed from its list",
            member=settlement.claim.member_id,
            export=confirmation.export_id,
            code=code,
        )


def _line(settlement: Settlement, now: datetime) -> Line:
    detail: dict[str, object] = {"outcome": settlement.outcome}
    if settlement.retry_at is not None:
        detail["retry_at"] = settlement.retry_at.isoformat()
    if settlement.dead:
        detail["dead_exports"] = sorted(settlement.dead)
    return Line(now, settlement.claim.member_id, None, "answered", detail)
