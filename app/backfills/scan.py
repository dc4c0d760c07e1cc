"""Backfill: read an audience page by page and store each member as a change that every newer live change beats."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from app.backfills.needs import Backfills, Exports, Lytics
from app.domain.backfill import Backfill, BackfillState, Page, Skip, ended, is_loop, restarted, seen_at
from app.domain.change import Kind, MembershipChange, nanoseconds
from app.domain.errors import CallFailed, CredentialsRefused, NotFound, Permanent, ScanExpired
from app.domain.export import Export, ExportState
from app.domain.scan import ScanPage

log = structlog.get_logger(__name__)

# A scan pauses while its export has this many pending changes: enough that Sailthru never waits for Lytics, few enough
# that backfills of one account share it.
MOST_PENDING = 1000
LOOK_AGAIN = timedelta(seconds=0.5)
LOOK_AT_EXPORT_AGAIN = timedelta(seconds=5)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=1)
MOST_RESTARTS = 1
ID_FIELD = "_id"
_LYTICS_ID = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step.

    Args:
        backfill: its new state; None if the lease was lost.
        pause: how long to wait before the next step.
    """

    backfill: Backfill | None
    pause: timedelta = timedelta(0)


class Backfiller:
    """Runs backfills, one step at a time.

    Args:
        lytics: None without an API token.
        usable_address: returns the e-mail address in a profile field, or None.
        wake: called with each account that has members due.
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
        """Store the next page, or record what the backfill waits for.

        Args:
            failures: number of failed steps in a row before this one.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        export = await self._exports.get(backfill.export_id)
        if export.state is ExportState.STOPPED:
            return await self._end(backfill, BackfillState.CANCELLED, "The export was stopped.", lease)
        if self._lytics is None:
            why = "LYTICS_API_TOKEN is not set, so the members of the audience can't be read."
            return await self._wait(backfill, why, LONGEST_WAIT, lease)
        obstacle = await self._obstacle(backfill, export)
        if obstacle is not None:
            return await self._wait(backfill, *obstacle, lease)
        return await self._read_page(backfill, export, self._lytics, lease, failures)

    async def _read_page(self, backfill: Backfill, export: Export, lytics: Lytics, lease: int, failures: int) -> Step:
        fields = [export.email_field, *export.fields]
        try:
            page = await lytics.scan(export.audience_id, fields=fields, start=backfill.cursor)
        except (NotFound, CallFailed) as error:
            return await self._after_failure(backfill, error, failures, lease)
        if is_loop(backfill, page.next):
            why = "Lytics named a page as the next one that was read already, so the scan would never end."
            return await self._restart(backfill, why, lease)
        kept = await self._backfills.save_page(backfill, self._page_of(page, backfill, export), lease=lease)
        if kept is None:
            return Step(None)
        moved, due_accounts = kept
        for account in due_accounts:
            self._wake(account)
        if not moved.is_active:
            _log_end(moved)
        return Step(moved)

    async def _after_failure(self, backfill: Backfill, error: NotFound | CallFailed, failures: int, lease: int) -> Step:
        if isinstance(error, ScanExpired):
            return await self._restart(backfill, str(error), lease)
        if isinstance(error, NotFound | Permanent):
            return await self._end(backfill, BackfillState.FAILED, str(error), lease)
        pause = LONGEST_WAIT if isinstance(error, CredentialsRefused) else FIRST_WAIT * (1 << min(failures, 4))
        return await self._wait(backfill, str(error), min(pause, LONGEST_WAIT), lease)

    async def _obstacle(self, backfill: Backfill, export: Export) -> tuple[str, timedelta] | None:
        """Return what the next page has to wait for, and when to look again."""
        if backfill.is_dry_run:
            return None
        if export.state is not ExportState.RUNNING:
            why = f"The export is in state {export.state}. The backfill continues when the export runs."
            return why, LOOK_AT_EXPORT_AGAIN
        pending = await self._exports.pending(export.id)
        if pending >= MOST_PENDING:
            return f"{pending:,} pending changes of this export are delivered first.", LOOK_AGAIN
        return None

    def _page_of(self, page: ScanPage, backfill: Backfill, export: Export) -> Page:
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
        waiting = replace(backfill, state=BackfillState.WAITING, waiting_for=why)
        if waiting == backfill or await self._backfills.save(waiting, lease=lease):
            return Step(waiting, pause)
        return Step(None)

    async def _restart(self, backfill: Backfill, why: str, lease: int) -> Step:
        if backfill.restarts >= MOST_RESTARTS:
            return await self._end(backfill, BackfillState.FAILED, f"{why} It happened again after a restart.", lease)
        again = restarted(backfill)
        log.warning("backfill restarts", backfill=backfill.id, export=backfill.export_id, why=why)
        return Step(again) if await self._backfills.save(again, lease=lease) else Step(None)

    async def _end(self, backfill: Backfill, state: BackfillState, why: str, lease: int) -> Step:
        done = ended(backfill, state, why, self._clock())
        if not await self._backfills.save(done, lease=lease):
            return Step(None)
        _log_end(done)
        return Step(done)


def _lytics_id(row: Mapping[str, object]) -> str | None:
    given = row.get(ID_FIELD)
    text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    return text if isinstance(text, str) and _LYTICS_ID.fullmatch(text) else None


def _log_end(backfill: Backfill) -> None:
    log_at_level = log.error if backfill.state is BackfillState.FAILED else log.info
    log_at_level(
        "backfill ended",
        backfill=backfill.id,
        export=backfill.export_id,
        dry_run=backfill.is_dry_run,
        state=backfill.state,
        scanned=backfill.scanned,
        queued=backfill.queued,
        why=backfill.reason,
    )
