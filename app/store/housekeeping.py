"""
Keeps the history short: timeline entries, minute counts and rejected events have their time; who is on which list is
never touched.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, tuple_

from app.store.engine import Database
from app.store.schema import journal, minute_counts, rejected_events

ROWS_A_STEP = 1000
REJECTED_DAYS = 30


async def prune(database: Database, now: datetime, journal_days: float) -> int:
    """
    Delete one step's worth of timeline entries and minute counts that are older than `journal_days`, and of rejected
    events older than 30 days.

    Returns how many rows are gone; 0 when nothing that old is left, which one look at the oldest of each tells.
    Rows are taken in the order in which they were written, so one with a time far ahead may outstay its days.
    """
    before = now - timedelta(days=journal_days)
    async with database.reading() as connection:
        lines = await connection.execute(select(journal.c.id, journal.c.at).order_by(journal.c.id).limit(ROWS_A_STEP))
        old_lines = [row.id for row in lines if row.at < before]
        counts = await connection.execute(
            select(minute_counts.c.export_id, minute_counts.c.minute)
            .where(minute_counts.c.minute < before)
            .order_by(minute_counts.c.minute)
            .limit(ROWS_A_STEP)
        )
        old_counts = [(row.export_id, row.minute) for row in counts]
        events = await connection.execute(
            select(rejected_events.c.id, rejected_events.c.at).order_by(rejected_events.c.id).limit(ROWS_A_STEP)
        )
        old_events = [row.id for row in events if row.at < now - timedelta(days=REJECTED_DAYS)]
    for table, ids in ((journal, old_lines), (rejected_events, old_events)):
        if ids:
            async with database.writing() as connection:
                await connection.execute(delete(table).where(table.c.id.in_(ids)))
    if old_counts:
        async with database.writing() as connection:
            key = tuple_(minute_counts.c.export_id, minute_counts.c.minute)
            await connection.execute(delete(minute_counts).where(key.in_(old_counts)))
    return len(old_lines) + len(old_counts) + len(old_events)
