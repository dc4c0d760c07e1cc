"""The transaction that stores one page of a scan, or only counts it for a dry run."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from app.domain.backfill import Backfill, Page, PageCount, Skip, advanced
from app.domain.change import MembershipChange, nanoseconds
from app.domain.dry_run import Effect, assume, effects
from app.domain.erasure import Digests
from app.domain.ledger import Verdict
from app.store.database.dialect import lock_table
from app.store.database.statements import upsert
from app.store.members.loading import Loaded, load
from app.store.members.saving import save
from app.store.schema import dry_run_people, exports

_SKIPPED = {Verdict.IGNORED: Skip.ALREADY_THERE, Verdict.STALE: Skip.CHANGED_SINCE}


def save_page(
    connection: Connection, backfill: Backfill, page: Page, now: datetime, digests: Digests | None
) -> tuple[Backfill, frozenset[str]]:
    """Store a page. Return the backfill after it, and the accounts that now have due members."""
    lock_table(connection, exports, is_exclusive=False)
    due_accounts: frozenset[str] = frozenset()
    if backfill.is_dry_run:
        skips = _count(connection, backfill.id, page, now, digests)
    else:
        loaded, changes = load(connection, page.changes, now, digests, is_backfill=True)
        skips = _decide(loaded, changes)
        due_accounts = save(connection, loaded)
    skipped = page.skipped + Counter(skip for skip in skips if skip is not None)
    count = PageCount(
        scanned=len(page.changes) + page.skipped.total(),
        queued=sum(skip is None for skip in skips),
        skipped={skip.value: number for skip, number in skipped.items()},
    )
    updated = advanced(backfill, count, cursor=page.next, total=page.total, now=now)
    return replace(updated, seen_at=page.seen_at), due_accounts


def _decide(loaded: Loaded, changes: Sequence[MembershipChange | None]) -> list[Skip | None]:
    """Apply changes. Return for each why it was skipped, or None if it was accepted."""
    return [Skip.ERASED if change is None else _SKIPPED.get(loaded.ledger.apply(change)) for change in changes]


def _count(
    connection: Connection, backfill_id: int, page: Page, now: datetime, digests: Digests | None
) -> list[Skip | None]:
    """Decide a page like a real run after the earlier pages, and roll everything back.

    Only the effect on each address is stored, as a digest, for the decisions about later pages.
    """
    attempt = connection.begin_nested()
    loaded, changes = load(connection, page.changes, now, digests, is_backfill=True)
    earlier = _load_effects(connection, backfill_id, loaded.places())
    moment_ns = nanoseconds(page.seen_at)
    for (export_id, address), effect in earlier.items():
        assume(loaded.ledger, export_id, address, effect, moment_ns)
    skips = _decide(loaded, changes)
    attempt.rollback()
    _save_effects(connection, backfill_id, effects(loaded.ledger, moment_ns))
    return skips


def _load_effects(
    connection: Connection, backfill_id: int, places: Collection[tuple[int, str]]
) -> dict[tuple[int, str], Effect]:
    by_digest = {_digest(address): (export_id, address) for export_id, address in places}
    found = connection.execute(
        select(dry_run_people.c.digest, dry_run_people.c.effect).where(
            dry_run_people.c.backfill_id == backfill_id, dry_run_people.c.digest.in_(sorted(by_digest))
        )
    )
    return {by_digest[row.digest]: Effect(row.effect) for row in found}


def _save_effects(connection: Connection, backfill_id: int, found: Mapping[str, Effect]) -> None:
    rows = [
        {"backfill_id": backfill_id, "digest": _digest(address), "effect": effect}
        for address, effect in sorted(found.items())
    ]
    if rows:
        connection.execute(upsert(connection, dry_run_people), rows)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]
