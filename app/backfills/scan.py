"""Backfill: reads an audience page by page and stores each member as a change. A newer live change supersedes it."""

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

# A scan waits while its export has this many pending changes. They keep Sailthru busy during the next read, and they
# are few enough that several backfills can share one account.
MOST_PENDING = 1000
PENDING_POLL_INTERVAL = timedelta(seconds=0.5)
EXPORT_POLL_INTERVAL = timedelta(seconds=5)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=1)
MOST_RESTARTS = 1
ID_FIELD = "_id"
_LYTICS_ID = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step.

    Args:
        backfill: its new state; None if the lease was lost.
        wait: the wait before the next step.
    """

    backfill: Backfill | None
    wait: timedelta = timedelta(0)


class Backfiller:
    """Runs backfills, one step at a time.

    Args:
        lytics: None without an API token.
        usable_address: returns the e-mail address in a profile field, or None.
        wake: wakes the delivery of an account, given by label.
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
        """Store the next page, or record why the backfill waits.

        Args:
            failures: the number of consecutive failed steps before this one.

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
            why = "The next page that Lytics named was read before, so the scan would never end."
            return await self._restart(backfill, why, lease)
        stored = await self._backfills.save_page(backfill, self._page_of(page, backfill, export), lease=lease)
        if stored is None:
            return Step(None)
        updated, due_accounts = stored
        for account in due_accounts:
            self._wake(account)
        if not updated.is_active:
            _log_end(updated)
        return Step(updated)

    async def _after_failure(self, backfill: Backfill, error: NotFound | CallFailed, failures: int, lease: int) -> Step:
        if isinstance(error, ScanExpired):
            return await self._restart(backfill, str(error), lease)
        if isinstance(error, NotFound | Permanent):
            return await self._end(backfill, BackfillState.FAILED, str(error), lease)
        wait = LONGEST_WAIT if isinstance(error, CredentialsRefused) else FIRST_WAIT * (1 << min(failures, 4))
        return await self._wait(backfill, str(error), min(wait, LONGEST_WAIT), lease)

    async def _obstacle(self, backfill: Backfill, export: Export) -> tuple[str, timedelta] | None:
        """Return why the next page must wait, and the wait until the next check; None if it need not wait."""
        if backfill.is_dry_run:
            return None
        if export.state is not ExportState.RUNNING:
            why = f"The export is in state {export.state}. The backfill continues when the export runs."
            return why, EXPORT_POLL_INTERVAL
        pending = await self._exports.pending(export.id)
        if pending >= MOST_PENDING:
            return f"{pending:,} pending changes of this export must be delivered first.", PENDING_POLL_INTERVAL
        return None

    def _page_of(self, page: ScanPage, backfill: Backfill, export: Export) -> Page:
        moment = backfill.seen_at or seen_at(page.answered_at, self._clock())
        moment_ns = nanoseconds(moment)
        skipped: Counter[Skip] = Counter()
        if page.unreadable:
            skipped[Skip.UNREADABLE] = page.unreadable
        changes: list[MembershipChange] = []
        for row in page.rows:
            value = row.get(export.email_field)
            address = self._usable_address(value)
            if address is None:
                skipped[Skip.INVALID if value else Skip.NO_ADDRESS] += 1
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

    async def _wait(self, backfill: Backfill, why: str, wait: timedelta, lease: int) -> Step:
        waiting = replace(backfill, state=BackfillState.WAITING, waiting_for=why)
        if waiting == backfill or await self._backfills.save(waiting, lease=lease):
            return Step(waiting, wait)
        return Step(None)

    async def _restart(self, backfill: Backfill, why: str, lease: int) -> Step:
        if backfill.restarts >= MOST_RESTARTS:
            return await self._end(backfill, BackfillState.FAILED, f"{why} It happened again after a restart.", lease)
        restart = restarted(backfill)
        log.warning("backfill restarts", backfill=backfill.id, export=backfill.export_id, why=why)
        return Step(restart) if await self._backfills.save(restart, lease=lease) else Step(None)

    async def _end(self, backfill: Backfill, state: BackfillState, why: str, lease: int) -> Step:
        final = ended(backfill, state, why, self._clock())
        if not await self._backfills.save(final, lease=lease):
            return Step(None)
        _log_end(final)
        return Step(final)


def _lytics_id(row: Mapping[str, object]) -> str | None:
    value = row.get(ID_FIELD)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
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
