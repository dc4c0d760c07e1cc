"""Backfill: one scan of an audience that adds its current members to the list, page by page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.change import MembershipChange

# A scan counts as this much older than its first page, so that live changes around it win.
SCAN_LEAD = timedelta(minutes=5)
CLOCK_TOLERANCE = timedelta(minutes=10)
# Time constant of the moving average that gives the rate.
RATE_SPAN = timedelta(minutes=1)


class BackfillState(StrEnum):
    """States of a backfill. A `waiting` backfill continues automatically; `waiting_for` says when."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    NEEDS_CONFIRMATION = "needs_confirmation"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({BackfillState.QUEUED, BackfillState.RUNNING, BackfillState.WAITING})


class Skip(StrEnum):
    """Why a scanned row causes no change.

    `already_there`: stored with the same fields. `changed_since`: a newer change wins. `no_address`: the field is
    empty. `invalid`: the address can't be used. `erased`: the address was erased. `unreadable`: not a profile.
    """

    ALREADY_THERE = "already_there"
    CHANGED_SINCE = "changed_since"
    NO_ADDRESS = "no_address"
    INVALID = "invalid"
    ERASED = "erased"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill and its progress.

    Args:
        is_dry_run: True if the backfill only counts.
        cursor: start of the next page; None for the first page.
        scanned: rows read.
        queued: rows that caused a change.
        skipped: all other rows, by reason.
        total: size of the audience according to Lytics; None before the first page.
        seen_at: event time of every change of this scan: time of the first page minus `SCAN_LEAD`.
        restarts: how often the scan began again because Lytics had forgotten its cursor.
        checkpoint: an earlier cursor; if Lytics names it again, the scan is a loop.
        checkpoint_page: the page after which the next checkpoint is set.
        reason: why it ended early, as text for operators.
        waiting_for: what it waits for, as text for operators.
        paged_at: when the newest page was stored.
        rate_then: rows per second at `paged_at`.
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
        return self.state in ACTIVE

    @property
    def joins_at_most(self) -> int | None:
        """Upper bound of the joins that it causes; None until Lytics has reported the audience's size."""
        if not self.is_active:
            return self.queued
        return None if self.total is None else self.queued + max(self.total - self.scanned, 0)

    def rate(self, now: datetime) -> float | None:
        """Rows per second, averaged over about a minute; None before the second page and after the end."""
        if self.rate_then is None or self.paged_at is None or not self.is_active:
            return None
        seconds = max((now - self.paged_at).total_seconds(), 0)
        return self.rate_then * math.exp(-seconds / RATE_SPAN.total_seconds())

    def eta(self, now: datetime) -> timedelta | None:
        """Time left at the present rate; None while rate or total is unknown."""
        rate = self.rate(now)
        if not rate or self.total is None:
            return None
        return timedelta(seconds=max(self.total - self.scanned, 0) / rate)


@dataclass(frozen=True, slots=True)
class BackfillClaim:
    """A backfill that one worker may run for as long as it renews the lease.

    Args:
        lease: a token that is new for each claim.
    """

    backfill: Backfill
    lease: int


@dataclass(frozen=True, slots=True)
class Page:
    """One scanned page, converted to changes.

    Args:
        skipped: rows without a change, by reason.
        next: cursor of the next page; None on the last one.
        total: size of the audience; None if Lytics does not report it.
        seen_at: event time of every change of this scan.
    """

    changes: Sequence[MembershipChange]
    skipped: Counter[Skip]
    next: str | None
    total: int | None
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class PageCount:
    """Counts of the rows of one page."""

    scanned: int
    queued: int
    skipped: Mapping[str, int]


def seen_at(answered_at: datetime | None, now: datetime) -> datetime:
    """Return the event time for a scan: Lytics' clock at its first answer, minus `SCAN_LEAD`.

    A missing time, or one that is more than `CLOCK_TOLERANCE` ahead of ours, is replaced by our own.
    """
    if answered_at is None or answered_at > now + CLOCK_TOLERANCE:
        answered_at = now
    return answered_at - SCAN_LEAD


def advanced(backfill: Backfill, page: PageCount, *, cursor: str | None, total: int | None, now: datetime) -> Backfill:
    """Return the backfill after one more page; it is completed if `cursor` is None."""
    skipped = dict(backfill.skipped)
    for reason, count in page.skipped.items():
        skipped[reason] = skipped.get(reason, 0) + count
    pages = backfill.pages + 1
    result = replace(
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
        return ended(result, BackfillState.COMPLETED, None, now)
    if pages >= backfill.checkpoint_page:
        # Brent's algorithm: doubling the distance between checkpoints finds a loop of any length with one cursor.
        result = replace(result, checkpoint=cursor, checkpoint_page=2 * backfill.checkpoint_page)
    return result


def _rate(backfill: Backfill, rows: int, now: datetime) -> float | None:
    """Return the exponential moving average of rows per second."""
    if backfill.paged_at is None or now <= backfill.paged_at:
        return backfill.rate_then
    seconds = (now - backfill.paged_at).total_seconds()
    latest = rows / seconds
    if backfill.rate_then is None:
        return latest
    return backfill.rate_then + (latest - backfill.rate_then) * (1 - math.exp(-seconds / RATE_SPAN.total_seconds()))


def is_loop(backfill: Backfill, cursor: str | None) -> bool:
    """Return whether the next cursor leads back to a page that was already read."""
    return cursor is not None and cursor in {backfill.cursor, backfill.checkpoint}


def restarted(backfill: Backfill) -> Backfill:
    """Return the backfill, reset to its first page. `queued` stays, because those changes are stored."""
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
    return replace(backfill, state=state, reason=reason, waiting_for=None, ended_at=now)
