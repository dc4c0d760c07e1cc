"""Backfill: the bringing over of everybody who is in an audience now, page by page, and how far it has come."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.change import MembershipChange

# Live changes around and during a scan win over what it read.
SCAN_LEAD = timedelta(minutes=5)
CLOCK_TOLERANCE = timedelta(minutes=10)
# The rate is mostly that of the last one.
RATE_SPAN = timedelta(minutes=1)


class BackfillState(StrEnum):
    """`waiting` goes on by itself once what it waits for is there."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    NEEDS_CONFIRMATION = "needs_confirmation"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({BackfillState.QUEUED, BackfillState.RUNNING, BackfillState.WAITING})


class Skip(StrEnum):
    """Why a row of a scan brings nobody over: held here already with the same fields; a newer change says otherwise; no
    address, or none that can be used; erased here; no profile at all.
    """

    ALREADY_THERE = "already_there"
    CHANGED_SINCE = "changed_since"
    NO_ADDRESS = "no_address"
    INVALID = "invalid"
    ERASED = "erased"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill, as it stands.

    Args:
        is_dry_run: only counts.
        cursor: where the next page starts; None for the first one.
        scanned, queued, skipped: rows read, people to be told, and the others by reason.
        total: of people in the audience, as Lytics counts them; None before the first page.
        seen_at: the time that counts for everybody found: that of the first page, less five minutes.
        restarts: how often the scan was begun again, since Lytics had forgotten where it stopped.
        checkpoint: a former cursor, and at which page the next one is kept: a cursor that comes again is a loop.
        reason, waiting_for: why it ended, or does not go on, for people.
        paged_at, rate_then: when the newest page was kept, and the rate by then, in rows a second.
    """

    id: int
    export_id: int
    is_dry_run: bool
    state: BackfillState
    created_at: datetime
    cursor: str | None = None
    pages: int = 0
    scanned: int = 0
    queued: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    total: int | None = None
    seen_at: datetime | None = None
    restarts: int = 0
    checkpoint: str | None = None
    checkpoint_page: int = 1
    reason: str | None = None
    waiting_for: str | None = None
    paged_at: datetime | None = None
    rate_then: float | None = None
    ended_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """False once it has ended."""
        return self.state in ACTIVE

    @property
    def joins_at_most(self) -> int | None:
        """How many joins it comes to at most; None as long as Lytics has not told how many people there are."""
        if not self.is_active:
            return self.queued
        return None if self.total is None else self.queued + max(self.total - self.scanned, 0)

    def rate(self, now: datetime) -> float | None:
        """Rows read in a second, of late; None before the second page and after the end."""
        if self.rate_then is None or self.paged_at is None or not self.is_active:
            return None
        seconds = max((now - self.paged_at).total_seconds(), 0)
        return self.rate_then * math.exp(-seconds / RATE_SPAN.total_seconds())

    def eta(self, now: datetime) -> timedelta | None:
        """How long it still takes at this rate; None where that can't be said."""
        rate = self.rate(now)
        if not rate or self.total is None:
            return None
        return timedelta(seconds=max(self.total - self.scanned, 0) / rate)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scan, understood.

    Args:
        changes: of those rows that can be kept.
        skipped: the other rows, by reason.
        next, total: where the next page starts, and of how many people in all; None where that is not told.
        seen_at: the time that counts for everybody found.
    """

    changes: Sequence[MembershipChange]
    skipped: Counter[Skip]
    next: str | None
    total: int | None
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class PageCount:
    """What one page came to."""

    scanned: int
    queued: int
    skipped: Mapping[str, int]


def seen_at(answered_at: datetime | None, now: datetime) -> datetime:
    """The time that counts for all whom a scan finds: Lytics' own clock at its first answer, less five minutes.

    As with events, a clock far ahead of ours is not believed.
    """
    if answered_at is None or answered_at > now + CLOCK_TOLERANCE:
        answered_at = now
    return answered_at - SCAN_LEAD


def advanced(backfill: Backfill, page: PageCount, *, cursor: str | None, total: int | None, now: datetime) -> Backfill:
    """The backfill after one page; completed if that was the last."""
    skipped = dict(backfill.skipped)
    for reason, count in page.skipped.items():
        skipped[reason] = skipped.get(reason, 0) + count
    pages = backfill.pages + 1
    moved = replace(
        backfill,
        cursor=cursor,
        pages=pages,
        scanned=backfill.scanned + page.scanned,
        queued=backfill.queued + page.queued,
        skipped=skipped,
        total=backfill.total if total is None else total,
        waiting_for=None,
        state=BackfillState.RUNNING,
        rate_then=_rate(backfill, page.scanned, now),
        paged_at=now,
    )
    if cursor is None:
        return ended(moved, BackfillState.COMPLETED, None, now)
    if pages >= backfill.checkpoint_page:
        # Brent's way to find a loop of any length while remembering one cursor.
        moved = replace(moved, checkpoint=cursor, checkpoint_page=2 * backfill.checkpoint_page)
    return moved


def _rate(backfill: Backfill, rows: int, now: datetime) -> float | None:
    """Rows a second, of which the last minute counts most."""
    if backfill.paged_at is None or now <= backfill.paged_at:
        return backfill.rate_then
    seconds = (now - backfill.paged_at).total_seconds()
    latest = rows / seconds
    if backfill.rate_then is None:
        return latest
    return backfill.rate_then + (latest - backfill.rate_then) * (1 - math.exp(-seconds / RATE_SPAN.total_seconds()))


def is_loop(backfill: Backfill, cursor: str | None) -> bool:
    """True if Lytics names a page to be next that was read already."""
    return cursor is not None and cursor in {backfill.cursor, backfill.checkpoint}


def restarted(backfill: Backfill) -> Backfill:
    """The backfill from its first page on. What was read already is found to be there."""
    return replace(
        backfill,
        cursor=None,
        restarts=backfill.restarts + 1,
        checkpoint=None,
        checkpoint_page=1,
        pages=0,
        scanned=0,
        skipped={},
    )


def ended(backfill: Backfill, state: BackfillState, reason: str | None, now: datetime) -> Backfill:
    """The backfill at its end."""
    return replace(backfill, state=state, reason=reason, waiting_for=None, ended_at=now)
