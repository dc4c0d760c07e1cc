"""
Exports: which audiences are kept, under which list, and how their counts stand.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import IntegrityError

from app.domain.audience import list_name
from app.domain.errors import Conflict, NotFound
from app.domain.export import Export, ExportState
from app.store.engine import Database, insert, insert_or_nothing
from app.store.group import GroupCommit
from app.store.schema import exports, totals, unexported

# Whoever holds a webhook token can name any audience; the list of unknown ones must not grow without end.
MOST_UNEXPORTED = 1000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """
    An export with its counts, which always add up: accepted = delivered + superseded + pending + dead + erased +
    cancelled.
    """

    export: Export
    counts: Mapping[str, int]
    last_event_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unexported:
    """
    An audience whose events arrive although nobody exports it.
    """

    audience_id: str
    audience_slug: str
    events: int
    last_event_at: datetime


class Exports:
    """
    The exports, kept in memory for the webhook's path and read again whenever one changes.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._by_audience: dict[str, tuple[Export, ...]] = {}
        self._refreshing = asyncio.Lock()
        self._count: GroupCommit[tuple[str, str], None] = GroupCommit(self._count_all)

    async def refresh(self) -> None:
        """
        Read all exports into memory.
        """
        # One after the other: what was read first must not be what is remembered last.
        async with self._refreshing:
            found: dict[str, tuple[Export, ...]] = {}
            for export in await self.all():
                found[export.audience_id] = (*found.get(export.audience_id, ()), export)
            self._by_audience = found

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        """
        The exports of an audience, from memory; empty if nobody exports it.
        """
        return self._by_audience.get(audience_id, ())

    async def all(self) -> list[Export]:
        """
        Every export, oldest first.
        """
        return [_export(row) for row in await self._database.rows(select(exports).order_by(exports.c.id))]

    async def get(self, export_id: int) -> Export:
        """
        One export.

        Raises:
            NotFound: there is none of this id.
        """
        return await self._database.read(lambda connection: _one(connection, export_id))

    async def start(
        self,
        audience_id: str,
        *,
        audience_slug: str,
        account: str,
        email_field: str = "email",
        fields: Mapping[str, str] | None = None,
    ) -> Export:
        """
        The export of an audience to an account: made if there is none yet, in state `needs_name`.
        """
        new = {
            "audience_id": audience_id,
            "audience_slug": audience_slug,
            "account": account,
            "email_field": email_field,
            "fields": dict(fields or {}),
            "state": ExportState.NEEDS_NAME,
            "reason": "Its name is being asked of Lytics.",
            "created_at": self._clock(),
        }

        def start(connection: Connection) -> Export:
            connection.execute(insert_or_nothing(connection, exports), [new])
            started = select(exports).where(exports.c.audience_id == audience_id, exports.c.account == account)
            export = _export(connection.execute(started).one())
            connection.execute(insert_or_nothing(connection, totals), [{"export_id": export.id}])
            return export

        export = await self._database.write(start)
        await self.refresh()
        return export

    async def name(self, export_id: int, audience_name: str) -> Export:
        """
        Give a nameless export its audience's name, and with it its list; it then runs.

        Where another export of the account has that list already, the state becomes `name_taken`.

        Raises:
            Conflict: it has a name already.
        """
        work = partial(_name, export_id=export_id, audience_name=audience_name)
        try:
            export = await self._database.write(work)
        except IntegrityError:
            # Another replica took the name between our look and our write.
            export = await self._database.write(work)
        await self.refresh()
        return export

    async def explain(self, export_id: int, reason: str) -> None:
        """
        Say why an export still has no name.
        """
        statement = (
            update(exports)
            .where(exports.c.id == export_id, exports.c.state == ExportState.NEEDS_NAME)
            .values(reason=reason)
        )
        await self._database.write(lambda connection: connection.execute(statement))
        await self.refresh()

    async def list_is_ready(self, account: str, name: str, list_id: str | None) -> None:
        """
        Remember that a list exists in Sailthru, so that nobody asks again.
        """
        statement = (
            update(exports)
            .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_ready_at.is_(None))
            .values(list_ready_at=self._clock(), list_id=list_id)
        )
        await self._database.write(lambda connection: connection.execute(statement))
        await self.refresh()

    async def waking(self) -> list[int]:
        """
        The exports whose waiting members have not all been made due yet.
        """
        rows = await self._database.rows(select(exports.c.id).where(exports.c.waking_from.is_not(None)))
        return [row.id for row in rows]

    async def reports(self, export_id: int | None = None) -> list[ExportReport]:
        """
        Exports with their counts, oldest first; all of them, or the one asked for.
        """
        statement = select(exports, totals).join(totals, totals.c.export_id == exports.c.id).order_by(exports.c.id)
        if export_id is not None:
            statement = statement.where(exports.c.id == export_id)
        rows = await self._database.rows(statement)
        names = [c.name for c in totals.columns if c.name not in {"export_id", "last_event_at"}]
        return [ExportReport(_export(r), {n: r._mapping[n] for n in names}, r.last_event_at) for r in rows]  # noqa: SLF001 - SQLAlchemy's public name for it

    async def count_unexported(self, audience_id: str, audience_slug: str) -> None:
        """
        Count an event of an audience that nobody exports; only the first thousand audiences are told apart.
        """
        await self._count.submit((audience_id, audience_slug))

    async def _count_all(self, audiences: list[tuple[str, str]]) -> list[None]:
        now = self._clock()
        await self._database.write(lambda connection: _count_unexported(connection, audiences, now))
        return [None for _ in audiences]

    async def unexported(self) -> list[Unexported]:
        """
        The audiences whose events are ignored, newest first.
        """
        rows = await self._database.rows(select(unexported).order_by(unexported.c.last_event_at.desc()))
        return [Unexported(r.audience_id, r.audience_slug, r.events, r.last_event_at) for r in rows]


def _name(connection: Connection, export_id: int, audience_name: str) -> Export:
    wanted = list_name(audience_name)
    export = _one(connection, export_id, is_locked=True)
    if export.state not in {ExportState.NEEDS_NAME, ExportState.NAME_TAKEN}:
        raise Conflict(
            f"Export {export_id} already keeps the list {export.list_name!r}. "
            "A name can be given only while its state is needs_name or name_taken."
        )
    owner = connection.scalar(
        select(exports.c.id).where(exports.c.account == export.account, exports.c.list_name == wanted)
    )
    values: dict[str, object]
    if owner is None:
        # The audience's waiting members are made due in slices, from the first on.
        values = {"list_name": wanted, "state": ExportState.RUNNING, "reason": None, "waking_from": 0}
    else:
        reason = (
            f"Export {owner} keeps the list {wanted!r} already. "
            f'Give this export another name: PATCH /exports/{export_id} {{"name": "..."}}.'
        )
        values = {"state": ExportState.NAME_TAKEN, "reason": reason}
    connection.execute(update(exports).where(exports.c.id == export_id).values(audience_name=audience_name, **values))
    return _one(connection, export_id)


def _count_unexported(connection: Connection, audiences: list[tuple[str, str]], now: datetime) -> None:
    known = set(connection.scalars(select(unexported.c.audience_id)))
    for audience, events in sorted(Counter(audiences).items()):
        is_told_apart = audience[0] in known or len(known) < MOST_UNEXPORTED
        audience_id, slug = audience if is_told_apart else ("", "(others)")
        known.add(audience_id)
        statement = insert(connection, unexported).values(
            audience_id=audience_id, audience_slug=slug, events=events, last_event_at=now
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


def _one(connection: Connection, export_id: int, *, is_locked: bool = False) -> Export:
    statement = select(exports).where(exports.c.id == export_id)
    row = connection.execute(statement.with_for_update() if is_locked else statement).one_or_none()
    if row is None:
        raise NotFound(f"There is no export {export_id}. GET /exports lists them.")
    return _export(row)


def _export(row: Row[Any]) -> Export:
    return Export(
        id=row.id,
        audience_id=row.audience_id,
        audience_slug=row.audience_slug,
        audience_name=row.audience_name,
        account=row.account,
        email_field=row.email_field,
        fields=row.fields,
        list_name=row.list_name,
        list_id=row.list_id,
        list_ready_at=row.list_ready_at,
        state=ExportState(row.state),
        reason=row.reason,
        created_at=row.created_at,
    )
