"""Reports of exports: counts, freshness, and the oldest pending change."""

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from app.domain.freshness import quantile
from app.domain.list_check import ConfirmedCount
from app.domain.membership import Confirmed
from app.domain.report import ExportReport, Freshness
from app.store.database.dialect import allow_table_scans
from app.store.exports.rows import export_of
from app.store.schema import exports, memberships, minute_latencies, totals

FRESHNESS_OF = timedelta(hours=1)
_COUNTS = [c.name for c in totals.columns if c.name not in {"export_id", "last_event_at"}]


def reports(connection: Connection, export_id: int | None, now: datetime) -> list[ExportReport]:
    """Return full reports of all exports, or of one, oldest first."""
    statement = select(exports, totals).join(totals, totals.c.export_id == exports.c.id).order_by(exports.c.id)
    if export_id is not None:
        statement = statement.where(exports.c.id == export_id)
    rows = connection.execute(statement).all()
    fresh = _freshness(connection, now)
    return [
        replace(
            _counted(row),
            freshness=fresh.get(row.id),
            oldest_pending_at=_oldest_pending(connection, row.id) if row.pending else None,
        )
        for row in rows
    ]


def with_counts(connection: Connection) -> list[ExportReport]:
    """Return all exports with their counts only, oldest first."""
    statement = select(exports, totals).join(totals, totals.c.export_id == exports.c.id).order_by(exports.c.id)
    return [_counted(row) for row in connection.execute(statement)]


def _counted(row: Row[Any]) -> ExportReport:
    counts = {name: row._mapping[name] for name in _COUNTS}  # noqa: SLF001 - public in SQLAlchemy
    return ExportReport(export_of(row), counts, row.last_event_at)


def _freshness(connection: Connection, now: datetime) -> dict[int, Freshness]:
    statement = (
        select(
            minute_latencies.c.export_id,
            minute_latencies.c.bucket,
            func.sum(minute_latencies.c.confirmed).label("confirmed"),
        )
        .where(minute_latencies.c.minute > now - FRESHNESS_OF)
        .group_by(minute_latencies.c.export_id, minute_latencies.c.bucket)
    )
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for row in connection.execute(statement):
        counts[row.export_id][row.bucket] += int(row.confirmed)
    found: dict[int, Freshness] = {}
    for export_id, confirmed in counts.items():
        p50, p95 = quantile(confirmed, 0.5), quantile(confirmed, 0.95)
        if p50 is not None and p95 is not None:
            found[export_id] = Freshness(p50, p95)
    return found


def _oldest_pending(connection: Connection, export_id: int) -> datetime | None:
    statement = select(func.min(memberships.c.accepted_at)).where(
        memberships.c.export_id == export_id, memberships.c.revision > memberships.c.confirmed_revision
    )
    found: datetime | None = connection.scalar(statement)
    return found


def confirmed_counts(connection: Connection) -> dict[int, ConfirmedCount]:
    """Return the number of confirmed and unknown members by export. It reads all memberships: for hourly use."""
    allow_table_scans(connection)
    statement = (
        select(memberships.c.export_id, memberships.c.confirmed, func.count().label("people"))
        .where(memberships.c.confirmed.in_([Confirmed.IN, Confirmed.UNKNOWN]))
        .group_by(memberships.c.export_id, memberships.c.confirmed)
    )
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for row in connection.execute(statement):
        counts[row.export_id][row.confirmed] = row.people
    return {
        export_id: ConfirmedCount(confirmed[Confirmed.IN], confirmed[Confirmed.UNKNOWN])
        for export_id, confirmed in counts.items()
    }
