"""Stores backfills. An export has at most one active backfill, and one worker at a time holds its lease.

A page is stored in one transaction with the cursor of the next page.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, delete, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from app.domain.backfill import Backfill, BackfillClaim, BackfillState, Page, ended
from app.domain.erasure import Digests
from app.domain.errors import Conflict, NotFound
from app.store import lease as leases
from app.store.backfills.pages import save_page
from app.store.database.engine import Database
from app.store.database.statements import insert
from app.store.schema import backfills, dry_run_people

# Number of rows of ended dry runs that one transaction deletes.
DELETE_AT_ONCE = 5000


class Backfills:
    """All backfills.

    Args:
        digests: recognizes erased addresses; None if no erasure key is set.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], *, digests: Digests | None = None) -> None:
        self._database = database
        self._clock = clock
        self._digests = digests

    async def open(self, export_id: int, *, is_dry_run: bool) -> Backfill:
        """Return the active backfill of an export, or a new one in state `queued`.

        Raises:
            Conflict: the active backfill is a dry run and a real one is requested, or the reverse.
        """
        work = partial(_open, export_id=export_id, is_dry_run=is_dry_run, now=self._clock())
        try:
            return await self._database.write(work)
        except IntegrityError:
            # Another replica inserted a backfill at the same moment. The second attempt finds it.
            return await self._database.write(work)

    async def get(self, export_id: int, backfill_id: int) -> Backfill:
        """Return a backfill.

        Raises:
            NotFound: the export has no backfill of this id.
        """
        return await self._database.read(lambda connection: _get(connection, export_id, backfill_id))

    async def find_by_export(self, export_id: int, *, limit: int = 20) -> list[Backfill]:
        """Return the newest backfills of an export, newest first."""
        statement = select(backfills).where(backfills.c.export_id == export_id).order_by(backfills.c.id.desc())
        return [backfill_of(row) for row in await self._database.rows(statement.limit(limit))]

    async def cancel(self, export_id: int, backfill_id: int) -> Backfill:
        """Cancel a backfill. Changes that it has already queued are still delivered."""
        return await self._database.write(
            partial(_cancel, export_id=export_id, backfill_id=backfill_id, now=self._clock())
        )

    async def claim(self, *, lease_for: timedelta, limit: int, excluding: Collection[int] = ()) -> list[BackfillClaim]:
        """Take the lease of active backfills that no worker holds, oldest first.

        Args:
            excluding: ids of backfills that the caller still runs. They are not claimed.
        """
        return await self._database.write(
            partial(_claim, now=self._clock(), lease_for=lease_for, limit=limit, excluding=excluding)
        )

    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool:
        """Extend a lease. Return False if it was lost or the backfill has ended."""
        until = self._clock() + lease_for
        return await self._database.write(lambda c: _update(c, backfill_id, lease, {"leased_until": until}))

    async def release(self, backfill_id: int, *, lease: int) -> None:
        await self._database.write(lambda c: _update(c, backfill_id, lease, {"lease": None, "leased_until": None}))

    async def save(self, backfill: Backfill, *, lease: int) -> bool:
        """Store the progress. Return False if the lease was lost or the backfill has ended."""
        return await self._database.write(lambda c: _update(c, backfill.id, lease, columns_of(backfill)))

    async def save_page(self, backfill: Backfill, page: Page, *, lease: int) -> tuple[Backfill, frozenset[str]] | None:
        """Store a page together with the cursor of the next one.

        Returns the backfill after the page and the accounts that now have due members. Returns None, and stores
        nothing, if the lease was lost or the backfill has ended.
        """
        work = partial(_save_page, backfill=backfill, page=page, lease=lease, now=self._clock(), digests=self._digests)
        return await self._database.write(work)

    async def delete_ended_dry_runs(self) -> bool:
        """Delete a batch of rows of ended dry runs. Return True if there may be more."""
        return await self._database.write(_delete_dry_run_rows)


def backfill_of(row: Row[Any]) -> Backfill:
    return Backfill(
        id=row.id,
        export_id=row.export_id,
        is_dry_run=row.is_dry_run,
        state=BackfillState(row.state),
        created_at=row.created_at,
        cursor=row.cursor,
        pages=row.pages,
        scanned=row.scanned,
        queued=row.queued,
        skipped=row.skipped,
        total=row.total,
        seen_at=row.seen_at,
        restarts=row.restarts,
        checkpoint=row.checkpoint,
        checkpoint_page=row.checkpoint_page,
        reason=row.reason,
        waiting_for=row.waiting_for,
        paged_at=row.paged_at,
        rate_then=row.rate_then,
        ended_at=row.ended_at,
    )


def columns_of(backfill: Backfill) -> dict[str, object]:
    """Return the columns that change while a backfill runs."""
    return {
        "state": backfill.state,
        "cursor": backfill.cursor,
        "pages": backfill.pages,
        "scanned": backfill.scanned,
        "queued": backfill.queued,
        "skipped": dict(backfill.skipped),
        "total": backfill.total,
        "seen_at": backfill.seen_at,
        "restarts": backfill.restarts,
        "checkpoint": backfill.checkpoint,
        "checkpoint_page": backfill.checkpoint_page,
        "reason": backfill.reason,
        "waiting_for": backfill.waiting_for,
        "paged_at": backfill.paged_at,
        "rate_then": backfill.rate_then,
        "ended_at": backfill.ended_at,
    }


def _open(connection: Connection, export_id: int, *, is_dry_run: bool, now: datetime) -> Backfill:
    active = select(backfills).where(backfills.c.export_id == export_id, backfills.c.ended_at.is_(None))
    row = connection.execute(active).one_or_none()
    if row is not None:
        if row.is_dry_run != is_dry_run:
            kind, other = ("dry run", "backfill") if row.is_dry_run else ("backfill", "dry run")
            raise Conflict(
                f"Export {export_id} has a {kind} under way. Wait for its end before you start a {other}, or cancel "
                f"it: DELETE /exports/{export_id}/backfills/{row.id}.",
                reason="backfill_under_way",
            )
        return backfill_of(row)
    inserted = connection.execute(
        insert(connection, backfills)
        .values(export_id=export_id, is_dry_run=is_dry_run, state=BackfillState.QUEUED, created_at=now)
        .returning(backfills)
    )
    return backfill_of(inserted.one())


def _get(connection: Connection, export_id: int, backfill_id: int, *, is_locked: bool = False) -> Backfill:
    statement = select(backfills).where(backfills.c.id == backfill_id, backfills.c.export_id == export_id)
    row = connection.execute(statement.with_for_update() if is_locked else statement).one_or_none()
    if row is None:
        raise NotFound(f"Export {export_id} has no backfill {backfill_id}.")
    return backfill_of(row)


def _cancel(connection: Connection, export_id: int, backfill_id: int, *, now: datetime) -> Backfill:
    backfill = _get(connection, export_id, backfill_id, is_locked=True)
    if not backfill.is_active:
        return backfill
    cancelled = ended(backfill, BackfillState.CANCELLED, "It was cancelled by an operator.", now)
    connection.execute(update(backfills).where(backfills.c.id == backfill_id).values(**columns_of(cancelled)))
    return cancelled


def _claim(
    connection: Connection, *, now: datetime, lease_for: timedelta, limit: int, excluding: Collection[int]
) -> list[BackfillClaim]:
    is_free = backfills.c.lease.is_(None) | leases.over(backfills.c.leased_until, now, lease_for)
    free = (
        select(backfills)
        .where(backfills.c.ended_at.is_(None), is_free, backfills.c.id.not_in(sorted(excluding)))
        .order_by(backfills.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claims = [BackfillClaim(backfill_of(row), leases.new_token()) for row in connection.execute(free)]
    for claim in claims:
        connection.execute(
            update(backfills)
            .where(backfills.c.id == claim.backfill.id)
            .values(lease=claim.lease, leased_until=now + lease_for)
        )
    return claims


def _update(connection: Connection, backfill_id: int, lease: int, values: dict[str, object]) -> bool:
    held = update(backfills).where(
        backfills.c.id == backfill_id, backfills.c.lease == lease, backfills.c.ended_at.is_(None)
    )
    return connection.execute(held.values(**values)).rowcount == 1


def _save_page(
    connection: Connection, *, backfill: Backfill, page: Page, lease: int, now: datetime, digests: Digests | None
) -> tuple[Backfill, frozenset[str]] | None:
    held = (
        select(backfills.c.id)
        .where(backfills.c.id == backfill.id, backfills.c.lease == lease, backfills.c.ended_at.is_(None))
        .with_for_update()
    )
    if connection.execute(held).one_or_none() is None:
        return None
    saved, due_accounts = save_page(connection, backfill, page, now, digests)
    _update(connection, backfill.id, lease, columns_of(saved))
    return saved, due_accounts


def _delete_dry_run_rows(connection: Connection) -> bool:
    statement = (
        select(dry_run_people.c.backfill_id, dry_run_people.c.digest)
        .join(backfills, backfills.c.id == dry_run_people.c.backfill_id)
        .where(backfills.c.ended_at.is_not(None))
        .limit(DELETE_AT_ONCE)
    )
    keys = [tuple(row) for row in connection.execute(statement)]
    key = tuple_(dry_run_people.c.backfill_id, dry_run_people.c.digest)
    connection.execute(delete(dry_run_people).where(key.in_(keys)))
    return len(keys) == DELETE_AT_ONCE
