"""Exports: their orders, lists and counts, each call one transaction."""

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
        """Return the export of an audience to an account; a new one is in state `needs_name`."""
        new = NewExport(audience_id, audience_slug, account, email_field, fields or {}, reason=NAME_PENDING)
        export, _ = await self.open(new)
        return export

    async def open(self, new: NewExport) -> tuple[Export, bool]:
        """Return the export of an audience to an account, and whether it is new; an existing one stays as it is.

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
        """Return the export of an account that keeps a list, also if it is stopped."""
        return await self._database.read(partial(orders.owner_of, account=account, list_name=list_name))

    async def pause(self, export_id: int) -> Export:
        """Keep its changes without delivering them.

        Raises:
            Conflict: it has no name yet, or is stopped.
        """
        return await self._order(partial(orders.pause, export_id=export_id))

    async def resume(self, export_id: int) -> Export:
        """Deliver its pending changes, and all new ones.

        Raises:
            Conflict: it has no name yet, or is stopped.
        """
        return await self._order(partial(orders.resume, export_id=export_id))

    async def stop(self, export_id: int) -> Export:
        """Take no more changes; pending ones are cancelled in batches, the list stays as it is."""
        return await self._order(partial(orders.stop, export_id=export_id))

    async def revive(self, export_id: int, *, chosen: FieldMapping, is_paused: bool) -> Export:
        """Let a stopped export run again, or be paused.

        Raises:
            Conflict: changes from before it was stopped are still being cancelled.
        """
        return await self._order(partial(orders.revive, export_id=export_id, chosen=chosen, is_paused=is_paused))

    async def adopt(self, export_id: int, audience: Audience, *, chosen: FieldMapping) -> Export:
        """Let an export go on with another audience: one that was made again under the same name.

        Raises:
            Conflict: another export of the account keeps a list for that audience.
        """
        return await self._order(partial(orders.adopt, export_id=export_id, audience=audience, chosen=chosen))

    async def set_fields(self, export_id: int, chosen: FieldMapping) -> Export:
        """Choose other fields for the changes that come from now on."""
        return await self._order(partial(orders.set_fields, export_id=export_id, chosen=chosen))

    async def mark_list_changed(self, export_id: int, change: ListChange, reason: str) -> Export:
        """Deliver nothing more until an operator has looked at the list."""
        return await self._order(partial(orders.list_changed, export_id=export_id, change=change, reason=reason))

    async def _order(self, order: Callable[[Connection], T]) -> T:
        def change(connection: Connection) -> T:
            done = order(connection)
            bump_exports_version(connection)
            return done

        try:
            return await self._database.write(change)
        except IntegrityError:
            # Another replica wrote between our read and our write. The second try reads what it wrote.
            return await self._database.write(change)

    async def set_reason(self, export_id: int, reason: str) -> None:
        """Record why an export still has no name, or no list."""
        has_no_list = exports.c.list_ready_at.is_(None)
        statement = update(exports).where(exports.c.id == export_id, has_no_list).values(reason=reason)
        await self._database.write(lambda connection: connection.execute(statement))

    async def record_list_check(self, export_id: int, *, list_others: int | None, in_doubt: int = 0) -> None:
        """Record how many addresses on the list are not held here."""
        statement = (
            update(exports)
            .where(exports.c.id == export_id)
            .values(list_others=list_others, list_others_in_doubt=in_doubt)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def mark_list_ready(self, account: str, name: str, list_id: str | None) -> None:
        """Record that a list exists in Sailthru, so that it is not asked for again."""
        statement = (
            update(exports)
            .where(exports.c.account == account, exports.c.list_name == name, exports.c.list_ready_at.is_(None))
            .values(list_ready_at=self._clock(), list_id=list_id, reason=None)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def take_turn(
        self, account: str, name: str, *, lease: int, lease_for: timedelta, is_missing: bool
    ) -> ListTurn:
        """Return whether it is our turn to make a list, which then is ours alone until the lease ends.

        Args:
            is_missing: the list is missing, whatever is recorded of it.
        """

        def take(connection: Connection) -> ListTurn:
            return list_turns.take_turn(
                connection, account, name, lease=lease, now=self._clock(), lease_for=lease_for, is_missing=is_missing
            )

        return await self._database.write(take)

    async def release_turn(self, account: str, name: str, *, lease: int) -> None:
        """Let another worker make the list."""
        await self._database.write(lambda c: list_turns.release_turn(c, account, name, lease))

    async def with_counts(self) -> list[ExportReport]:
        """Return all exports with their counts, oldest first."""
        return await self._database.read(with_counts)

    async def confirmed(self) -> dict[int, ConfirmedCount]:
        """Return by export how many members Sailthru has confirmed on its list. It reads all memberships."""
        return await self._database.read(confirmed_counts)

    async def pending(self, export_id: int) -> int:
        """Return how many changes of an export are not settled."""
        statement = select(totals.c.pending).where(totals.c.export_id == export_id)
        return await self._database.read(lambda connection: connection.scalar(statement)) or 0

    async def unfinished(self) -> list[int]:
        """Return the exports that have work left for each of their members."""
        return [row.id for row in await self._database.rows(batches.unfinished())]

    async def reports(self, export_id: int | None = None) -> list[ExportReport]:
        """Return exports with their counts, oldest first; all of them, or the one asked for."""
        return await self._database.read(partial(reports, export_id=export_id, now=self._clock()))

    async def unexported(self) -> list[Unexported]:
        """Return the audiences whose events are ignored, newest first."""
        rows = await self._database.rows(select(unexported).order_by(unexported.c.last_event_at.desc()))
        return [Unexported(r.audience_id, r.audience_slug, r.events, r.last_event_at) for r in rows]
