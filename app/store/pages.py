"""
The transaction that keeps one page of a scan, or for a dry run only counts what it would come to.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from app.domain.backfill import Backfill, Page, PageCount, Skip, advanced
from app.domain.change import MembershipChange
from app.domain.erasure import Digests
from app.domain.merge import Verdict
from app.store.engine import insert_or_nothing
from app.store.keep import Batch
from app.store.schema import dry_run_people

_SKIPPED = {Verdict.IGNORED: Skip.ALREADY_THERE, Verdict.STALE: Skip.CHANGED_SINCE}


def keep_page(
    connection: Connection, backfill: Backfill, page: Page, now: datetime, digests: Digests | None
) -> tuple[Backfill, frozenset[str]]:
    """
    The backfill as it stands after this page, and the accounts that have somebody to call for.
    """
    if backfill.is_dry_run:
        # What is read and decided is just what a run would; of what it writes nothing stays.
        attempt = connection.begin_nested()
        skips, due_accounts = _keep(connection, page, now, digests)
        attempt.rollback()
        skips, due_accounts = _without_those_counted(connection, backfill.id, page.changes, skips), frozenset()
    else:
        skips, due_accounts = _keep(connection, page, now, digests)
    skipped = page.skipped + Counter(skip for skip in skips if skip is not None)
    count = PageCount(
        scanned=len(page.changes) + page.skipped.total(),
        queued=sum(skip is None for skip in skips),
        skipped={skip.value: number for skip, number in skipped.items()},
    )
    moved = advanced(backfill, count, cursor=page.next, total=page.total, now=now)
    return replace(moved, seen_at=page.seen_at), due_accounts


def _keep(
    connection: Connection, page: Page, now: datetime, digests: Digests | None
) -> tuple[list[Skip | None], frozenset[str]]:
    """
    Why each change brings nobody over; None for those who are told.
    """
    batch = Batch(connection, now, is_backfill=True)
    taken = batch.load(page.changes, digests)
    skips = [Skip.ERASED if change is None else _SKIPPED.get(batch.apply(change)) for change in taken]
    return skips, batch.save()


def _without_those_counted(
    connection: Connection, backfill_id: int, changes: Sequence[MembershipChange], skips: Sequence[Skip | None]
) -> list[Skip | None]:
    """
    Whose address was counted as to be told is there already the next time that a scan shows it, as pages shift while
    people come and go. What else a run would have changed meanwhile does not matter to who is told: a scan shows each
    Lytics user under one address.
    """
    digests = [_digest(change) if skip is None else None for change, skip in zip(changes, skips, strict=True)]
    told = {digest for digest in digests if digest is not None}
    counted = set(
        connection.scalars(
            select(dry_run_people.c.digest).where(
                dry_run_people.c.backfill_id == backfill_id, dry_run_people.c.digest.in_(sorted(told))
            )
        )
    )
    new = [{"backfill_id": backfill_id, "digest": digest} for digest in sorted(told - counted)]
    if new:
        connection.execute(insert_or_nothing(connection, dry_run_people), new)
    return [Skip.ALREADY_THERE if digest in counted else skip for digest, skip in zip(digests, skips, strict=True)]


def _digest(change: MembershipChange) -> str:
    return hashlib.sha256((change.address or "").encode()).hexdigest()[:32]
