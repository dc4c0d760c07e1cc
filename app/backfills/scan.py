"""Verb 3, backfill: page through an audience in Lytics and keep each of its members, as a change that all live ones
beat.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from app.domain.backfill import Backfill, BackfillState, Page, Skip, ended, is_loop, restarted, seen_at
from app.domain.change import Kind, MembershipChange, nanoseconds
from app.domain.errors import CallFailed, CredentialsRefused, NotFound, Permanent, ScanExpired
from app.domain.export import Export, ExportState
from app.domain.scan import ScanPage

log = structlog.get_logger(__name__)

# So many changes of an export may wait to be told before its scan waits for them: enough for Sailthru never to wait for
# Lytics, and few enough for backfills of one account to share it.
MOST_WAITING = 1000
LOOK_AGAIN = timedelta(seconds=0.5)
LOOK_AT_EXPORT_AGAIN = timedelta(seconds=5)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=1)
MOST_RESTARTS = 1
ID_FIELD = "_id"
_LYTICS_ID = re.compile("[0-9]{1,20}")


class Lytics(Protocol):
    """Who is in an audience, page by page."""

    async def scan(self, audience_id: str, *, fields: Iterable[str], start: str | None) -> ScanPage:
        """The next people of an audience."""
        ...


class Exports(Protocol):
    """Which audience is brought over, and how many of its changes wait."""

    async def get(self, export_id: int) -> Export:
        """One export."""
        ...

    async def pending(self, export_id: int) -> int:
        """How many of its changes wait to be told."""
        ...


class Backfills(Protocol):
    """Where backfills are kept."""

    async def keep(self, backfill: Backfill, page: Page, *, lease: int) -> tuple[Backfill, frozenset[str]] | None:
        """Keep a page; None if the backfill has ended or somebody else holds it."""
        ...

    async def save(self, backfill: Backfill, *, lease: int) -> bool:
        """Write back how it stands; false if it has ended or somebody else holds it."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """How far one step came.

    Args:
        backfill: as it stands now; None if it is not ours any more.
        pause: how long nothing more can be done.
    """

    backfill: Backfill | None
    pause: timedelta = timedelta(0)


class Backfiller:
    """Runs backfills, one step at a time.

    Args:
        lytics: None without an API token.
        usable_address: the e-mail address in a profile field, or None.
        wake: told which accounts now have somebody to call for.
    """

    def __init__(
        self,
        exports: Exports,
        backfills: Backfills,
        lytics: Lytics | None,
        *,
        usable_address: Callable[[object], str | None],
        wake: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._exports = exports
        self._backfills = backfills
        self._lytics = lytics
        self._usable_address = usable_address
        self._wake = wake
        self._clock = clock

    async def step(self, backfill: Backfill, *, lease: int, failures: int = 0) -> Step:
        """Bring the next page over, or find out what has to be waited for.

        Args:
            failures: how often in a row Lytics could not be asked.

        Raises:
            StoreUnavailable: nothing was kept.
        """
        export = await self._exports.get(backfill.export_id)
        if export.state is ExportState.STOPPED:
            return await self._end(backfill, BackfillState.CANCELLED, "Its export was stopped.", lease)
        if self._lytics is None:
            why = "No LYTICS_API_TOKEN is set, so nobody can be asked who is in the audience."
            return await self._wait(backfill, why, LONGEST_WAIT, lease)
        held_up = await self._held_up(backfill, export)
        if held_up is not None:
            return await self._wait(backfill, *held_up, lease)
        return await self._turn_page(backfill, export, self._lytics, lease, failures)

    async def _turn_page(self, backfill: Backfill, export: Export, lytics: Lytics, lease: int, failures: int) -> Step:
        fields = [export.email_field, *export.fields]
        try:
            page = await lytics.scan(export.audience_id, fields=fields, start=backfill.cursor)
        except (NotFound, CallFailed) as error:
            return await self._without_a_page(backfill, error, failures, lease)
        if is_loop(backfill, page.next):
            why = "Lytics names a page to be next that was read already, so that the scan would never end."
            return await self._begin_again(backfill, why, lease)
        kept = await self._backfills.keep(backfill, self._understood(page, backfill, export), lease=lease)
        if kept is None:
            return Step(None)
        moved, due_accounts = kept
        for account in due_accounts:
            self._wake(account)
        if not moved.is_active:
            _tell_end(moved)
        return Step(moved)

    async def _without_a_page(
        self, backfill: Backfill, error: NotFound | CallFailed, failures: int, lease: int
    ) -> Step:
        if isinstance(error, ScanExpired):
            return await self._begin_again(backfill, str(error), lease)
        if isinstance(error, NotFound | Permanent):
            return await self._end(backfill, BackfillState.FAILED, str(error), lease)
        pause = LONGEST_WAIT if isinstance(error, CredentialsRefused) else FIRST_WAIT * (1 << min(failures, 4))
        return await self._wait(backfill, str(error), min(pause, LONGEST_WAIT), lease)

    async def _held_up(self, backfill: Backfill, export: Export) -> tuple[str, timedelta] | None:
        """What has to happen before the next page may come."""
        if backfill.is_dry_run:
            return None
        if export.state is not ExportState.RUNNING:
            return f"The export is in state {export.state}: it goes on when that runs.", LOOK_AT_EXPORT_AGAIN
        waiting = await self._exports.pending(export.id)
        if waiting >= MOST_WAITING:
            return f"{waiting:,} people of this export are told first.", LOOK_AGAIN
        return None

    def _understood(self, page: ScanPage, backfill: Backfill, export: Export) -> Page:
        moment = backfill.seen_at or seen_at(page.answered_at, self._clock())
        moment_ns = nanoseconds(moment)
        skipped: Counter[Skip] = Counter()
        if page.unreadable:
            skipped[Skip.UNREADABLE] = page.unreadable
        changes: list[MembershipChange] = []
        for row in page.rows:
            given = row.get(export.email_field)
            address = self._usable_address(given)
            if address is None:
                skipped[Skip.INVALID if given else Skip.NO_ADDRESS] += 1
                continue
            changes.append(
                MembershipChange(
                    export_id=export.id,
                    kind=Kind.ENTER,
                    address=address,
                    lytics_id=_lytics_id(row),
                    moved_at_ns=moment_ns,
                    message_at_ns=moment_ns,
                    vars=export.vars_of(row),
                    by_scan=True,
                )
            )
        return Page(changes, skipped, page.next, page.total, moment)

    async def _wait(self, backfill: Backfill, why: str, pause: timedelta, lease: int) -> Step:
        waits = replace(backfill, state=BackfillState.WAITING, waiting_for=why)
        if waits == backfill or await self._backfills.save(waits, lease=lease):
            return Step(waits, pause)
        return Step(None)

    async def _begin_again(self, backfill: Backfill, why: str, lease: int) -> Step:
        if backfill.restarts >= MOST_RESTARTS:
            return await self._end(backfill, BackfillState.FAILED, f"{why} It happened again after a restart.", lease)
        again = restarted(backfill)
        log.warning("backfill begins again", backfill=backfill.id, export=backfill.export_id, why=why)
        return Step(again) if await self._backfills.save(again, lease=lease) else Step(None)

    async def _end(self, backfill: Backfill, state: BackfillState, why: str, lease: int) -> Step:
        done = ended(backfill, state, why, self._clock())
        if not await self._backfills.save(done, lease=lease):
            return Step(None)
        _tell_end(done)
        return Step(done)


def _lytics_id(row: Mapping[str, object]) -> str | None:
    given = row.get(ID_FIELD)
    text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    return text if isinstance(text, str) and _LYTICS_ID.fullmatch(text) else None


def _tell_end(backfill: Backfill) -> None:
    tell = log.error if backfill.state is BackfillState.FAILED else log.info
    tell(
        "backfill ended",
        backfill=backfill.id,
        export=backfill.export_id,
        dry_run=backfill.is_dry_run,
        state=backfill.state,
        scanned=backfill.scanned,
        queued=backfill.queued,
        why=backfill.reason,
    )
