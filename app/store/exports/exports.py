"""Exports: orders, lists and counts. Each call is one transaction."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from app.domain.audience import Audience
from app.domain.export import Export, ListTurn, NewExport
from app.domain.fields import FieldMapping
from app.domain.list_check import ConfirmedCount, ListChange
from app.domain.report import ExportReport, Unexported
from app.domain.resolve import NAME_PENDING
from app.store.database.engine import Database
from app.store.exports import list_turns, orders
from app.store.exports.reports import confirmed_counts, reports, with_counts
from app.store.exports.rows import all_exports, exports_of, one_export
from app.store.exports.versions import bump_exports_version
from app.store.members import batches
from app.store.schema import exports, totals, unexported

T = TypeVar("T")


class Exports:
    """All exports."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def find_by_audience(self, audience_id: str) -> tuple[Export, ...]:
        """Return the exports of an audience, at most one for each account, oldest first."""
        return tuple(await self._database.read(lambda connection: exports_of(connection, [audience_id])))

    async def all(self) -> list[Export]:
        """Return every export, oldest first."""
        return await self._database.read(all_exports)

    async def get(self, export_id: int) -> Export:
        """Return one export.

        Raises:
            NotFound: no export has this id.
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
        """Return the export of an audience to an account. A new export is in state `needs_name`."""
        new = NewExport(audience_id, audience_slug, account, email_field, fields or {}, reason=NAME_PENDING)
        export, _ = await self.open(new)
        return export

    async def open(self, new: NewExport) -> tuple[Export, bool]:
        """Return the export of an audience to an account, and whether it is new. An existing one is not changed.

        Raises:
            Conflict: another export of the account keeps the list.
        """
        return await self._order(partial(orders.open_export, new=new, now=self._clock()))

    async def name(self, export_id: int, audience_name: str, list_name: str) -> Export:
        """Give a nameless export its audience's name and its list; it then runs.

        If another export of the account already keeps that list, the state becomes `name_taken`.

        Raises:
            Conflict: the export has a name already.
        """
        return await self._order(
            partial(orders.name, export_id=export_id, audience_name=audience_name, list_name=list_name)
        )

    async def owner_of(self, account: str, list_name: str) -> Export | None:
        """Return the export of an account that keeps a list, even if it is stopped."""
        return await self._database.read(partial(orders.owner_of, account=account, list_name=list_name))

    async def pause(self, export_id: int) -> Export:
        """Store the changes of an export without delivering them.

        Raises:
            Conflict: the export has no name yet, or is stopped.
        """
        return await self._order(partial(orders.pause, export_id=export_id))

    async def resume(self, export_id: int) -> Export:
        """Deliver the pending changes of an export and all later ones.

        Raises:
            Conflict: the export has no name yet, or is stopped.
        """
        return await self._order(partial(orders.resume, export_id=export_id))

    async def stop(self, export_id: int) -> Export:
        """Ignore new events and cancel pending changes in batches. The list stays unchanged."""
        return await self._order(partial(orders.stop, export_id=export_id))

    async def revive(self, export_id: int, *, chosen: FieldMapping, is_paused: bool) -> Export:
        """Let a stopped export run again, or pause it.

        Raises:
            Conflict: changes from before the stop are still being cancelled.
        """
        return await self._order(partial(orders.revive, export_id=export_id, chosen=chosen, is_paused=is_paused))

    async def adopt(self, export_id: int, audience: Audience, *, chosen: FieldMapping) -> Export:
        """Let an export continue with another audience, which replaces a deleted one of the same name.

        Raises:
            Conflict: another export of the account keeps a list for that audience.
        """
        return await self._order(partial(orders.adopt, export_id=export_id, audience=audience, chosen=chosen))

    async def set_fields(self, export_id: int, chosen: FieldMapping) -> Export:
        """Choose other fields. They are sent with later changes."""
        return await self._order(partial(orders.set_fields, export_id=export_id, chosen=chosen))

    async def mark_list_changed(self, export_id: int, change: ListChange, reason: str) -> Export:
        """Stop delivery until an operator has checked the list."""
        return await self._order(partial(orders.list_changed, export_id=export_id, change=change, reason=reason))

    async def _order(self, order: Callable[[Connection], T]) -> T:
        def change(connection: Connection) -> T:
            done = order(connection)
            bump_exports_version(connection)
            return done

        try:
            return await self._database.write(change)
        except IntegrityError:
            # Another replica wrote between our read and our write. The second attempt reads its rows.
            return await self._database.write(change)

    async def set_reason(self, export_id: int, reason: str) -> None:
        """Record why an export has no name or no list yet."""
        has_no_list = exports.c.list_ready_at.is_(None)
        statement = update(exports).where(exports.c.id == export_id, has_no_list).values(reason=reason)
        await self._database.write(lambda connection: connection.execute(statement))

    async def record_list_check(self, export_id: int, *, list_others: int | None, in_doubt: int = 0) -> None:
        """Record how many other addresses were on the list at a check."""
        statement = (
            update(exports)
            .where(exports.c.id == export_id)
            .values(list_others=list_others, list_others_in_doubt=in_doubt)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def mark_list_ready(self, account: str, name: str, list_id: str | None) -> None:
        """Record that a list exists in Sailthru, so that it is not created again."""
        statement = (
            update(exports)
            .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_ready_at.is_(None))
            .values(list_ready_at=self._clock(), list_id=list_id, reason=None)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def take_turn(
        self, account: str, name: str, *, lease: int, lease_for: timedelta, is_missing: bool
    ) -> ListTurn:
        """Take the turn to create a list, unless the list is ready or another worker has the turn.

        Args:
            is_missing: True if the list is missing in Sailthru, although it may be recorded as ready.
        """

        def take(connection: Connection) -> ListTurn:
            return list_turns.take_turn(
                connection, account, name, lease=lease, now=self._clock(), lease_for=lease_for, is_missing=is_missing
            )

        return await self._database.write(take)

    async def release_turn(self, account: str, name: str, *, lease: int) -> None:
        """Let another worker create the list."""
        await self._database.write(lambda c: list_turns.release_turn(c, account, name, lease))

    async def with_counts(self) -> list[ExportReport]:
        """Return all exports with their counts, oldest first."""
        return await self._database.read(with_counts)

    async def confirmed(self) -> dict[int, ConfirmedCount]:
        """Return the number of confirmed and unknown members by export. It reads all memberships."""
        return await self._database.read(confirmed_counts)

    async def pending(self, export_id: int) -> int:
        """Return the number of pending changes of an export."""
        statement = select(totals.c.pending).where(totals.c.export_id == export_id)
        return await self._database.read(lambda connection: connection.scalar(statement)) or 0

    async def unfinished(self) -> list[int]:
        """Return the exports with orders that are still carried out in batches."""
        return [row.id for row in await self._database.rows(batches.unfinished())]

    async def reports(self, export_id: int | None = None) -> list[ExportReport]:
        """Return full reports of all exports, or of one, oldest first."""
        return await self._database.read(partial(reports, export_id=export_id, now=self._clock()))

    async def unexported(self) -> list[Unexported]:
        """Return the audiences whose events are ignored, newest first."""
        rows = await self._database.rows(select(unexported).order_by(unexported.c.last_event_at.desc()))
        return [Unexported(r.audience_id, r.audience_slug, r.events, r.last_event_at) for r in rows]
