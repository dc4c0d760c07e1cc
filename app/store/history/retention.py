"""Retention: deletes old timeline entries, minute counts and rejected events. Memberships are never deleted here."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, Delete, delete, select, tuple_

from app.store.database.engine import Database
from app.store.replicas.chores import Chores
from app.store.schema import journal, minute_counts, minute_latencies, rejected_events

ROWS_PER_STEP = 1000
REJECTED_DAYS = 30
PRUNE_EVERY = timedelta(hours=1)


class Retention:
    """Deletes old history step by step, in one replica at a time.

    Args:
        chores: assigns turns to replicas; None if there are no other replicas.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], journal_days: float, chores: Chores | None
    ) -> None:
        self._database = database
        self._clock = clock
        self._journal_days = journal_days
        self._chores = chores
        self._has_more = False

    async def prune(self) -> timedelta:
        """Delete one step of old history if it is this replica's turn.

        Returns the wait before the next step. It is zero while there is more to delete.
        """
        if not self._has_more and self._chores is not None and not await self._chores.take_turn("house", PRUNE_EVERY):
            return PRUNE_EVERY
        self._has_more = bool(await prune(self._database, self._clock(), self._journal_days))
        return timedelta(0) if self._has_more else PRUNE_EVERY


async def prune(database: Database, now: datetime, journal_days: float) -> int:
    """Delete up to 1,000 old rows of each table: after `journal_days`, and rejected events after 30 days.

    Returns how many rows were deleted; 0 if no old row is left. Timeline entries and rejected events are deleted in the
    order of their insertion, so a row whose time is wrong and far ahead stays longer.
    """
    old_rows = await database.read(partial(_old_rows, before=now - timedelta(days=journal_days), now=now))
    for statement in old_rows.deletions():
        await database.write(partial(_delete, statement=statement))
    return len(old_rows.lines) + len(old_rows.counts) + len(old_rows.latencies) + len(old_rows.events)


class _OldRows(NamedTuple):
    lines: list[int]
    counts: list[tuple[int, datetime]]
    latencies: list[tuple[int, datetime, int]]
    events: list[int]

    def deletions(self) -> Iterator[Delete]:
        """Return one statement for each table with old rows."""
        if self.lines:
            yield delete(journal).where(journal.c.id.in_(self.lines))
        if self.counts:
            key = tuple_(minute_counts.c.export_id, minute_counts.c.minute)
            yield delete(minute_counts).where(key.in_(self.counts))
        if self.latencies:
            bucket = tuple_(minute_latencies.c.export_id, minute_latencies.c.minute, minute_latencies.c.bucket)
            yield delete(minute_latencies).where(bucket.in_(self.latencies))
        if self.events:
            yield delete(rejected_events).where(rejected_events.c.id.in_(self.events))


def _delete(connection: Connection, statement: Delete) -> None:
    connection.execute(statement)


def _old_rows(connection: Connection, *, before: datetime, now: datetime) -> _OldRows:
    lines = connection.execute(select(journal.c.id, journal.c.at).order_by(journal.c.id).limit(ROWS_PER_STEP))
    counts = connection.execute(
        select(minute_counts.c.export_id, minute_counts.c.minute)
        .where(minute_counts.c.minute < before)
        .order_by(minute_counts.c.minute)
        .limit(ROWS_PER_STEP)
    )
    latencies = connection.execute(
        select(minute_latencies.c.export_id, minute_latencies.c.minute, minute_latencies.c.bucket)
        .where(minute_latencies.c.minute < before)
        .order_by(minute_latencies.c.minute)
        .limit(ROWS_PER_STEP)
    )
    events = connection.execute(
        select(rejected_events.c.id, rejected_events.c.at).order_by(rejected_events.c.id).limit(ROWS_PER_STEP)
    )
    return _OldRows(
        lines=[row.id for row in lines if row.at < before],
        counts=[(row.export_id, row.minute) for row in counts],
        latencies=[(row.export_id, row.minute, row.bucket) for row in latencies],
        events=[row.id for row in events if row.at < now - timedelta(days=REJECTED_DAYS)],
    )
