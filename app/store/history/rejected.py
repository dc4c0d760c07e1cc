"""The newest 10,000 rejected events, each with its reason and an outline of its body."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from app.store.database.engine import Database
from app.store.database.group_commit import GroupCommit
from app.store.schema import rejected_events

MOST_ROWS = 10_000
# Maximum group size, so that a valid webhook waits for at most one short transaction.
MOST_REQUESTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A request, or one message of it, that was rejected.

    Args:
        at: time of arrival.
        reason: a fixed word; `app.explain.rejections` explains each.
        happened: the problem and its place, without any value.
        body_bytes: number of bytes of the request that were read.
        body: an outline of at most 4 KB.
    """

    at: datetime
    reason: str
    happened: str
    body_bytes: int
    body: str


class RejectedEvents:
    """The newest rejected events.

    Args:
        on_commit: called with the name of a group commit and the number of requests in it.
    """

    def __init__(
        self, database: Database, *, on_commit: Callable[[str, int], None] = lambda _kind, _size: None
    ) -> None:
        self._database = database
        self._record: GroupCommit[Sequence[RejectedEvent], None] = GroupCommit(
            self._record_all, max_size=MOST_REQUESTS_AT_ONCE, on_commit=lambda size: on_commit("reject", size)
        )

    async def record(self, events: Sequence[RejectedEvent]) -> None:
        """Store the rejected events of one request and delete the oldest beyond `MOST_ROWS`.

        Raises:
            StoreUnavailable: the events were not stored.
        """
        if events:
            await self._record.submit(events)

    async def page(self, *, before: int | None = None, size: int = 100) -> list[tuple[int, RejectedEvent]]:
        """Return ids and events, newest first.

        Args:
            before: return only events that are older than the one with this id.
        """
        statement = select(rejected_events).order_by(rejected_events.c.id.desc()).limit(size)
        if before is not None:
            statement = statement.where(rejected_events.c.id < before)
        rows = await self._database.rows(statement)
        return [(r.id, RejectedEvent(r.at, r.reason, r.happened, r.body_bytes, r.body)) for r in rows]

    async def _record_all(self, requests: list[Sequence[RejectedEvent]]) -> list[None]:
        rows: list[dict[str, object]] = [
            {
                "at": event.at,
                "reason": event.reason,
                "happened": event.happened,
                "body_bytes": event.body_bytes,
                "body": event.body,
            }
            for events in requests
            for event in events
        ]
        await self._database.write(lambda connection: _record(connection, rows))
        return [None for _ in requests]


def _record(connection: Connection, rows: list[dict[str, object]]) -> None:
    connection.execute(rejected_events.insert(), rows)
    # Ids increase, so the surplus is a range of the primary key.
    newest = select(func.max(rejected_events.c.id)).scalar_subquery()
    connection.execute(delete(rejected_events).where(rejected_events.c.id <= newest - MOST_ROWS))
