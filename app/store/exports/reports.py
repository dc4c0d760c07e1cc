"""How exports stand: counts that always add up, how fresh the lists are, and who waits for longest."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from app.domain.export import Export
from app.domain.freshness import quantile
from app.domain.list_check import Confirmed as ConfirmedCount
from app.domain.membership import Confirmed
from app.store.database.dialect import whole_tables
from app.store.exports.rows import export_of
from app.store.schema import exports, memberships, minute_latencies, totals

FRESHNESS_OF = timedelta(hours=1)
_COUNTS = [c.name for c in totals.columns if c.name not in {"export_id", "last_event_at"}]


@dataclass(frozen=True, slots=True)
class Freshness:
    """From a change being accepted to Sailthru being told, of the changes told in the last hour."""

    p50: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An export with its counts, which always add up: accepted = delivered + superseded + pending + dead + erased +
    cancelled.

    Args:
        freshness: None if nothing was told in the last hour, or it was not asked for.
        oldest_pending_at: when the change was accepted that waits for longest, if that was asked for.
    """

    export: Export
    counts: Mapping[str, int]
    last_event_at: datetime | None
    freshness: Freshness | None = None
    oldest_pending_at: datetime | None = None


def reports(connection: Connection, export_id: int | None, now: datetime) -> list[ExportReport]:
    """Exports as they stand, oldest first; all of them, or the one asked for."""
    statement = select(exports, totals).join(totals, totals.c.export_id == exports.c.id).order_by(exports.c.id)
    if export_id is not None:
        statement = statement.where(exports.c.id == export_id)
    rows = connection.execute(statement).all()
    fresh = _freshness(connection, now)
    return [
        replace(
            _standing(row),
            freshness=fresh.get(row.id),
            oldest_pending_at=_oldest_pending(connection, row.id) if row.pending else None,
        )
        for row in rows
    ]


def standings(connection: Connection) -> list[ExportReport]:
    """All exports with their counts, oldest first."""
    statement = select(exports, totals).join(totals, totals.c.export_id == exports.c.id).order_by(exports.c.id)
    return [_standing(row) for row in connection.execute(statement)]


def _standing(row: Row[Any]) -> ExportReport:
    counts = {name: row._mapping[name] for name in _COUNTS}  # noqa: SLF001 - SQLAlchemy's public name for it
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
    """By export, how many people Sailthru was told to be on its list. It counts through all memberships, so it is for a
    look an hour.
    """
    whole_tables(connection)
    statement = (
        select(memberships.c.export_id, memberships.c.confirmed, func.count().label("people"))
        .where(memberships.c.confirmed.in_([Confirmed.IN, Confirmed.UNKNOWN]))
        .group_by(memberships.c.export_id, memberships.c.confirmed)
    )
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for row in connection.execute(statement):
        counts[row.export_id][row.confirmed] = row.people
    return {
        one: ConfirmedCount(confirmed[Confirmed.IN], confirmed[Confirmed.UNKNOWN]) for one, confirmed in counts.items()
    }
