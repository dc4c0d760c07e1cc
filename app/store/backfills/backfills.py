"""Backfills as rows: one under way for an export, held by one worker at a time; a page and where the next one starts
are kept in one transaction.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from app.domain.backfill import Backfill, BackfillState, Page, ended
from app.domain.erasure import Digests
from app.domain.errors import Conflict, NotFound
from app.store.backfills.pages import keep_page
from app.store.database.engine import Database
from app.store.database.statements import insert
from app.store.schema import backfills, dry_run_people

# How many of a dry run's people are forgotten in one transaction.
FORGET_AT_ONCE = 5000


class Backfills:
    """All backfills.

    Args:
        digests: keep out who was erased; None where nobody can be.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], *, digests: Digests | None = None) -> None:
        self._database = database
        self._clock = clock
        self._digests = digests

    async def open(self, export_id: int, *, is_dry_run: bool) -> Backfill:
        """The backfill of an export that is under way, or a new one, in state `queued`.

        Raises:
            Conflict: one of the other kind, dry or not, is under way.
        """
        work = partial(_open, export_id=export_id, is_dry_run=is_dry_run, now=self._clock())
        try:
            return await self._database.write(work)
        except IntegrityError:
            # Another replica was faster; the second look sees its.
            return await self._database.write(work)

    async def get(self, export_id: int, backfill_id: int) -> Backfill:
        """One backfill.

        Raises:
            NotFound: the export has none of this id.
        """
        return await self._database.read(lambda connection: _one(connection, export_id, backfill_id))

    async def of_export(self, export_id: int, *, limit: int = 20) -> list[Backfill]:
        """The newest backfills of an export, the newest first."""
        statement = select(backfills).where(backfills.c.export_id == export_id).order_by(backfills.c.id.desc())
        return [backfill_of(row) for row in await self._database.rows(statement.limit(limit))]

    async def cancel(self, export_id: int, backfill_id: int) -> Backfill:
        """End a backfill; whom it has queued is told all the same."""
        return await self._database.write(
            partial(_cancel, export_id=export_id, backfill_id=backfill_id, now=self._clock())
        )

    async def claim(self, *, lease: int, lease_for: timedelta, most: int) -> list[Backfill]:
        """Hold backfills that are under way and that nobody holds, the oldest first."""
        return await self._database.write(
            partial(_claim, lease=lease, now=self._clock(), lease_for=lease_for, most=most)
        )

    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool:
        """Hold a backfill for longer; false if it has ended, or somebody else holds it."""
        until = self._clock() + lease_for
        return await self._database.write(lambda c: _update(c, backfill_id, lease, {"leased_until": until}))

    async def let_go(self, backfill_id: int, *, lease: int) -> None:
        """Let somebody else hold it."""
        await self._database.write(lambda c: _update(c, backfill_id, lease, {"lease": None, "leased_until": None}))

    async def save(self, backfill: Backfill, *, lease: int) -> bool:
        """Write back how a backfill stands; false if it has ended, or somebody else holds it."""
        return await self._database.write(lambda c: _update(c, backfill.id, lease, columns_of(backfill)))

    async def keep(self, backfill: Backfill, page: Page, *, lease: int) -> tuple[Backfill, frozenset[str]] | None:
        """Keep a page of a scan, and with it where the next one starts; returns the backfill as it stands then, and the
        accounts that have somebody to call for. None if it has ended, or somebody else holds it: nothing was kept.
        """
        work = partial(_keep, backfill=backfill, page=page, lease=lease, now=self._clock(), digests=self._digests)
        return await self._database.write(work)

    async def forget_dry_runs(self) -> bool:
        """Forget a slice of whom ended dry runs have counted. True while there is more."""
        return await self._database.write(_forget)


def backfill_of(row: Row[Any]) -> Backfill:
    """The backfill of a row."""
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
    """What of a backfill changes while it runs."""
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
    under_way = select(backfills).where(backfills.c.export_id == export_id, backfills.c.ended_at.is_(None))
    row = connection.execute(under_way).one_or_none()
    if row is not None:
        if row.is_dry_run != is_dry_run:
            kind, other = ("a dry run", "backfill") if row.is_dry_run else ("a backfill", "dry run")
            raise Conflict(
                f"For export {export_id} {kind} is under way: wait for its end before the {other}, or cancel it: "
                f"DELETE /exports/{export_id}/backfills/{row.id}.",
                reason="backfill_under_way",
            )
        return backfill_of(row)
    made = connection.execute(
        insert(connection, backfills)
        .values(export_id=export_id, is_dry_run=is_dry_run, state=BackfillState.QUEUED, created_at=now)
        .returning(backfills)
    )
    return backfill_of(made.one())


def _one(connection: Connection, export_id: int, backfill_id: int, *, is_locked: bool = False) -> Backfill:
    statement = select(backfills).where(backfills.c.id == backfill_id, backfills.c.export_id == export_id)
    row = connection.execute(statement.with_for_update() if is_locked else statement).one_or_none()
    if row is None:
        raise NotFound(f"Export {export_id} has no backfill {backfill_id}.")
    return backfill_of(row)


def _cancel(connection: Connection, export_id: int, backfill_id: int, *, now: datetime) -> Backfill:
    backfill = _one(connection, export_id, backfill_id, is_locked=True)
    if not backfill.is_active:
        return backfill
    done = ended(backfill, BackfillState.CANCELLED, "It was cancelled by hand.", now)
    connection.execute(update(backfills).where(backfills.c.id == backfill_id).values(**columns_of(done)))
    return done


def _claim(connection: Connection, *, lease: int, now: datetime, lease_for: timedelta, most: int) -> list[Backfill]:
    is_free = or_(backfills.c.lease.is_(None), backfills.c.leased_until <= now)
    free = (
        select(backfills)
        .where(backfills.c.ended_at.is_(None), is_free)
        .order_by(backfills.c.id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    found = [backfill_of(row) for row in connection.execute(free)]
    connection.execute(
        update(backfills)
        .where(backfills.c.id.in_([one.id for one in found]))
        .values(lease=lease, leased_until=now + lease_for)
    )
    return found


def _update(connection: Connection, backfill_id: int, lease: int, values: dict[str, object]) -> bool:
    held = update(backfills).where(
        backfills.c.id == backfill_id, backfills.c.lease == lease, backfills.c.ended_at.is_(None)
    )
    return connection.execute(held.values(**values)).rowcount == 1


def _keep(
    connection: Connection, *, backfill: Backfill, page: Page, lease: int, now: datetime, digests: Digests | None
) -> tuple[Backfill, frozenset[str]] | None:
    held = (
        select(backfills.c.id)
        .where(backfills.c.id == backfill.id, backfills.c.lease == lease, backfills.c.ended_at.is_(None))
        .with_for_update()
    )
    if connection.execute(held).one_or_none() is None:
        return None
    kept, due_accounts = keep_page(connection, backfill, page, now, digests)
    _update(connection, backfill.id, lease, columns_of(kept))
    return kept, due_accounts


def _forget(connection: Connection) -> bool:
    statement = (
        select(dry_run_people.c.backfill_id, dry_run_people.c.digest)
        .join(backfills, backfills.c.id == dry_run_people.c.backfill_id)
        .where(backfills.c.ended_at.is_not(None))
        .limit(FORGET_AT_ONCE)
    )
    keys = [tuple(row) for row in connection.execute(statement)]
    key = tuple_(dry_run_people.c.backfill_id, dry_run_people.c.digest)
    connection.execute(delete(dry_run_people).where(key.in_(keys)))
    return len(keys) == FORGET_AT_ONCE
