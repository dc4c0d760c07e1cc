"""Exports: which audiences are kept, under which list; in memory for the webhook's path, in the database for the
rest.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from app.domain.audience import Audience
from app.domain.export import Export, ListTurn, NewExport
from app.domain.fields import FieldMapping
from app.domain.list_check import Confirmed as ConfirmedCount
from app.domain.list_check import ListChange
from app.domain.report import ExportReport, Unexported
from app.store.database.engine import Database
from app.store.database.group_commit import GroupCommit
from app.store.database.statements import insert
from app.store.exports import list_turns as list_making
from app.store.exports import orders
from app.store.exports.reports import confirmed_counts, reports, standings
from app.store.exports.rows import all_exports, one_export
from app.store.exports.versions import exports_change, version_of_exports
from app.store.members import batches as slices
from app.store.schema import exports, totals, unexported

# Whoever holds a webhook token can name any audience; the list of unknown ones must not grow without end.
MOST_UNEXPORTED = 1000

T = TypeVar("T")


class Exports:
    """The exports, kept in memory for the webhook's path and read again whenever one changes.

    Attributes:
        version: of what is in memory.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._by_audience: dict[str, tuple[Export, ...]] = {}
        self.version = 0
        self._refreshing = asyncio.Lock()
        self._count: GroupCommit[tuple[str, str, int], bool] = GroupCommit(self._count_all)

    async def refresh(self) -> None:
        """Read all exports into memory."""
        # One after the other: what was read first must not be what is remembered last.
        async with self._refreshing:
            found: dict[str, tuple[Export, ...]] = {}
            version, stored = await self._database.read(lambda c: (version_of_exports(c), all_exports(c)))
            for export in stored:
                found[export.audience_id] = (*found.get(export.audience_id, ()), export)
            self._by_audience, self.version = found, version

    async def is_current(self, version: int) -> bool:
        """Whether exports as they were read with this version are what is stored; if not, one was changed since."""
        return await self._database.read(version_of_exports) == version

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        """The exports of an audience, from memory; empty if nobody exports it."""
        return self._by_audience.get(audience_id, ())

    async def all(self) -> list[Export]:
        """Every export, oldest first."""
        return await self._database.read(all_exports)

    async def get(self, export_id: int) -> Export:
        """One export.

        Raises:
            NotFound: there is none of this id.
        """
        return await self._database.read(lambda connection: one_export(connection, export_id))

    async def start(
        self,
        audience_id: str,
        *,
        audience_slug: str,
        account: str,
        email_field: str = "email",
        fields: Mapping[str, str] | None = None,
    ) -> Export:
        """The export of an audience to an account: made if there is none yet, in state `needs_name`."""
        new = NewExport(
            audience_id,
            audience_slug,
            account,
            email_field,
            fields or {},
            reason="Its name is being asked of Lytics.",
        )
        export, _ = await self.open(new)
        return export

    async def open(self, new: NewExport) -> tuple[Export, bool]:
        """The export of an audience to an account, and whether it was made just now; one that is there stays as it is.

        Raises:
            Conflict: another export of the account keeps the list.
        """
        return await self._order(partial(orders.open_export, new=new, now=self._clock()))

    async def name(self, export_id: int, audience_name: str, list_name: str) -> Export:
        """Give a nameless export its audience's name, and with it its list; it then runs.

        Where another export of the account has that list already, the state becomes `name_taken`.

        Raises:
            Conflict: it has a name already.
        """
        return await self._order(
            partial(orders.name, export_id=export_id, audience_name=audience_name, list_name=list_name)
        )

    async def owner_of(self, account: str, list_name: str) -> Export | None:
        """The export of an account that keeps a list, also if it is stopped."""
        return await self._database.read(partial(orders.owner_of, account=account, list_name=list_name))

    async def pause(self, export_id: int) -> Export:
        """Keep its changes, and tell nobody of them.

        Raises:
            Conflict: it has no name yet, or is stopped.
        """
        return await self._order(partial(orders.pause, export_id=export_id))

    async def resume(self, export_id: int) -> Export:
        """Tell what waits, and all that comes.

        Raises:
            Conflict: it has no name yet, or is stopped.
        """
        return await self._order(partial(orders.resume, export_id=export_id))

    async def stop(self, export_id: int) -> Export:
        """Take no more of its changes; what is pending is cancelled in slices, the list stays as it is."""
        return await self._order(partial(orders.stop, export_id=export_id))

    async def revive(self, export_id: int, *, chosen: FieldMapping, is_paused: bool) -> Export:
        """Let a stopped export run again, or wait in pause.

        Raises:
            Conflict: changes of before it was stopped are still being cancelled.
        """
        return await self._order(partial(orders.revive, export_id=export_id, chosen=chosen, is_paused=is_paused))

    async def adopt(self, export_id: int, audience: Audience, *, chosen: FieldMapping) -> Export:
        """Let an export go on with another audience: one that was made again under the same name.

        Raises:
            Conflict: another export of the account keeps a list for that audience.
        """
        return await self._order(partial(orders.adopt, export_id=export_id, audience=audience, chosen=chosen))

    async def set_fields(self, export_id: int, chosen: FieldMapping) -> Export:
        """Choose other fields; they go along with the changes that come from now on."""
        return await self._order(partial(orders.set_fields, export_id=export_id, chosen=chosen))

    async def list_changed(self, export_id: int, change: ListChange, reason: str) -> Export:
        """Stop telling until a person has looked at the list."""
        return await self._order(partial(orders.list_changed, export_id=export_id, change=change, reason=reason))

    async def _order(self, order: Callable[[Connection], T]) -> T:
        def change(connection: Connection) -> T:
            done = order(connection)
            exports_change(connection)
            return done

        try:
            done = await self._database.write(change)
        except IntegrityError:
            # Another replica was faster, between our look and our write; the second look sees it.
            done = await self._database.write(change)
        await self.refresh()
        return done

    async def explain(self, export_id: int, reason: str) -> None:
        """Say why an export still has no name, or no list."""
        has_no_list = exports.c.list_ready_at.is_(None)
        statement = update(exports).where(exports.c.id == export_id, has_no_list).values(reason=reason)
        await self._database.write(lambda connection: connection.execute(statement))
        await self.refresh()

    async def looked(self, export_id: int, *, list_others: int | None, in_doubt: int = 0) -> None:
        """Remember how many people are on the list who are not held here."""
        statement = (
            update(exports)
            .where(exports.c.id == export_id)
            .values(list_others=list_others, list_others_in_doubt=in_doubt)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def list_is_ready(self, account: str, name: str, list_id: str | None) -> None:
        """Remember that a list exists in Sailthru, so that nobody asks again."""
        statement = (
            update(exports)
            .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_ready_at.is_(None))
            .values(list_ready_at=self._clock(), list_id=list_id, reason=None)
        )
        await self._database.write(lambda connection: connection.execute(statement))
        await self.refresh()

    async def take_turn(self, account: str, name: str, *, lease: int, lease_for: timedelta, is_again: bool) -> ListTurn:
        """Whether it is our turn to make a list, which then is ours alone for so long.

        Args:
            is_again: the list is missing, whatever is remembered of it.
        """

        def take(connection: Connection) -> ListTurn:
            return list_making.take_turn(
                connection, account, name, lease=lease, now=self._clock(), lease_for=lease_for, is_again=is_again
            )

        return await self._database.write(take)

    async def give_turn_back(self, account: str, name: str, *, lease: int) -> None:
        """Let somebody else make the list."""
        await self._database.write(lambda c: list_making.give_turn_back(c, account, name, lease))

    async def standings(self) -> list[ExportReport]:
        """All exports with their counts, oldest first."""
        return await self._database.read(standings)

    async def confirmed(self) -> dict[int, ConfirmedCount]:
        """By export, how many people Sailthru was told to be on its list. It counts through all memberships."""
        return await self._database.read(confirmed_counts)

    async def pending(self, export_id: int) -> int:
        """How many changes of an export wait to be told."""
        statement = select(totals.c.pending).where(totals.c.export_id == export_id)
        return await self._database.read(lambda connection: connection.scalar(statement)) or 0

    async def unfinished(self) -> list[int]:
        """The exports that have something left to be done for each of their members."""
        return [row.id for row in await self._database.rows(slices.unfinished())]

    async def reports(self, export_id: int | None = None) -> list[ExportReport]:
        """Exports with their counts, oldest first; all of them, or the one asked for."""
        return await self._database.read(partial(reports, export_id=export_id, now=self._clock()))

    async def count_unexported(self, audience_id: str, audience_slug: str, version: int) -> bool:
        """Count an event of an audience that nobody exports; only the first thousand audiences are told apart.

        False if somebody does by now, or may: exports were changed since that version of them, and nothing was counted.
        """
        return await self._count.submit((audience_id, audience_slug, version))

    async def _count_all(self, events: list[tuple[str, str, int]]) -> list[bool]:
        def count(connection: Connection) -> list[bool]:
            stored = version_of_exports(connection)
            audiences = [(audience_id, slug) for audience_id, slug, version in events if version == stored]
            if audiences:
                _count_unexported(connection, audiences, self._clock())
            return [version == stored for *_, version in events]

        return await self._database.write(count)

    async def unexported(self) -> list[Unexported]:
        """The audiences whose events are ignored, newest first."""
        rows = await self._database.rows(select(unexported).order_by(unexported.c.last_event_at.desc()))
        return [Unexported(r.audience_id, r.audience_slug, r.events, r.last_event_at) for r in rows]


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
