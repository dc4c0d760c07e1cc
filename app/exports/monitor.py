"""Watches what nobody calls about: a list that somebody changed in Sailthru, and an audience that fell silent.

Each alarm is told once when it begins and once when it is over; a restart tells again what still holds.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from app.domain.errors import CallFailed
from app.domain.export import Export, ExportState
from app.domain.list_check import Confirmed, Kept, ListSeen, judge, reason
from app.domain.report import ExportReport
from app.exports.needs import Exports, Lists

log = structlog.get_logger(__name__)

LOOK_AT_LISTS_EVERY = timedelta(hours=1)
LOOK_EVERY = timedelta(minutes=15)
# Their lists are looked after; a paused one may have a flow built on it.
WATCHED = frozenset({ExportState.RUNNING, ExportState.PAUSED})
CHANGED, SILENT = "list changed", "silent"


class ListMonitor:
    """Looks at lists once an hour, one call for each account, and at what is silent every quarter of an hour.

    Args:
        lists: the Sailthru accounts by label.
        silent_after: how long an audience that had webhooks may have none; None for ever.
        may_look_at_lists: whether it is our turn, which comes once in so long; None where nobody else takes one.
    """

    def __init__(
        self,
        exports: Exports,
        lists: Mapping[str, Lists],
        clock: Callable[[], datetime],
        *,
        silent_after: timedelta | None,
        may_look_at_lists: Callable[[timedelta], Awaitable[bool]] | None = None,
    ) -> None:
        self._may_look_at_lists = may_look_at_lists
        self._exports = exports
        self._lists = lists
        self._clock = clock
        self._silent_after = silent_after
        self._lists_at: datetime | None = None
        self._alarms: dict[tuple[int, str], str] = {}

    def is_silent(self, export_id: int) -> bool:
        """True while no webhook comes for an export that had some."""
        return (export_id, SILENT) in self._alarms

    async def look(self) -> timedelta:
        """Look at what is due; returns when to look again.

        Raises:
            StoreUnavailable: the exports could not be read or written.
        """
        now = self._clock()
        # A clock that was set back must not put the next look off.
        if self._lists_at is None or not timedelta(0) <= now - self._lists_at < LOOK_AT_LISTS_EVERY:
            if self._may_look_at_lists is None or await self._may_look_at_lists(LOOK_AT_LISTS_EVERY):
                await self._look_at_lists()
            self._lists_at = now
        self._tell(await self._exports.standings())
        return LOOK_EVERY

    async def _look_at_lists(self) -> None:
        before = {one.export.id: one for one in await self._exports.standings()}
        accounts = {one.export.account for one in before.values() if _is_watched(one.export)}
        for account in sorted(accounts & self._lists.keys()):
            lists = self._lists[account]
            try:
                index = await lists.index()
                confirmed = await self._exports.confirmed()
                after = [one for one in await self._exports.standings() if one.export.account == account]
                for one in after:
                    if _is_watched(one.export) and one.export.id in before:
                        await self._look_at(
                            lists, index, confirmed.get(one.export.id, Confirmed()), before[one.export.id], one
                        )
            except CallFailed as failed:
                # Whether calls work at all is told by those that deliver; the next hour looks again.
                log.info("lists were not looked at", account=account, why=str(failed))

    async def _look_at(
        self,
        lists: Lists,
        index: Mapping[str, list[ListSeen]],
        confirmed: Confirmed,
        before: ExportReport,
        after: ExportReport,
    ) -> None:
        export = after.export
        name = export.list_name or ""
        named = index.get(name, [])
        seen = next((one for one in named if one.list_id == export.list_id), named[0] if named else None)
        if seen is None:
            # The index may be incomplete, which must not stop an export.
            seen = await lists.find(name)
        confirmed_meanwhile = after.counts["delivered"] - before.counts["delivered"]
        kept = Kept(
            export.list_id,
            confirmed.on_list,
            confirmed.in_doubt + confirmed_meanwhile,
            export.list_others,
            export.list_others_in_doubt,
        )
        found = judge(kept, seen)
        if found.change is not None:
            why = reason(found.change, name, export.id, found.jump)
            await self._exports.list_changed(export.id, found.change, why)
        elif (found.others, found.others_in_doubt) != (export.list_others, export.list_others_in_doubt):
            await self._exports.looked(export.id, list_others=found.others, in_doubt=found.others_in_doubt)

    def _tell(self, reports: Sequence[ExportReport]) -> None:
        now = self._clock()
        alarms: dict[tuple[int, str], str] = {}
        for one in reports:
            export = one.export
            if export.state is ExportState.LIST_CHANGED:
                alarms[export.id, CHANGED] = export.reason or ""
            if self._has_fallen_silent(one, now):
                alarms[export.id, SILENT] = (
                    "No webhook came for long, although there were some: see whether the job still runs in Lytics, "
                    "since one that has failed stays so until somebody restarts it."
                )
        for (export_id, alarm), why in alarms.items():
            if (export_id, alarm) not in self._alarms:
                log.error("alarm", alarm=alarm, export=export_id, next_step=why)
        for export_id, alarm in self._alarms.keys() - alarms.keys():
            log.info("alarm is over", alarm=alarm, export=export_id)
        self._alarms = alarms

    def _has_fallen_silent(self, report: ExportReport, now: datetime) -> bool:
        if self._silent_after is None or report.last_event_at is None or report.export.state not in WATCHED:
            return False
        return now - report.last_event_at > self._silent_after


def _is_watched(export: Export) -> bool:
    return export.state in WATCHED and export.list_ready_at is not None and export.list_name is not None
