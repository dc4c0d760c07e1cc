"""Counts the events of audiences that are not exported."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from app.store.database.statements import insert
from app.store.schema import unexported

# The holder of a webhook token can name any audience, so the number of rows is bounded. The rest share one row.
MOST_UNEXPORTED = 1000
_OTHERS = ("", "(others)")


def count_unexported(connection: Connection, events: Sequence[tuple[str, str]], now: datetime) -> None:
    """Count events, given as audience id and slug. Only the first 1,000 audiences get a row of their own."""
    if not events:
        return
    known = set(connection.scalars(select(unexported.c.audience_id)))
    rows: Counter[tuple[str, str]] = Counter()
    for audience, count in sorted(Counter(events).items()):
        has_row = audience[0] in known or len(known) < MOST_UNEXPORTED
        rows[audience if has_row else _OTHERS] += count
        known.add(audience[0] if has_row else "")
    # In the order of audience ids, as every other transaction locks them.
    for (audience_id, slug), count in sorted(rows.items()):
        statement = insert(connection, unexported).values(
            audience_id=audience_id, audience_slug=slug, events=count, last_event_at=now
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["audience_id"],
                set_={
                    "events": unexported.c.events + statement.excluded.events,
                    "last_event_at": statement.excluded.last_event_at,
                },
            )
        )
