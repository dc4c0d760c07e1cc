"""Monitors exports: raises an alarm if a list was changed in Sailthru, or if an audience sends no more webhooks."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from app.alarms import Alarm, AlarmName, Alarms, Subject
from app.domain.errors import CallFailed
from app.domain.export import Export, ExportState
from app.domain.list_check import ConfirmedCount, KnownList, ListSeen, judge, reason
from app.domain.report import ExportReport
from app.exports.needs import Exports, Lists

log = structlog.get_logger(__name__)

LOOK_AT_LISTS_EVERY = timedelta(hours=1)
LOOK_EVERY = timedelta(minutes=15)
# A flow may be built on the list of a paused export.
WATCHED = frozenset({ExportState.RUNNING, ExportState.PAUSED})
SILENT_MEANING = "No webhook has come for a long time, although there were some."
SILENT_NEXT_STEP = "Check in Lytics that the job is running. A job that failed stays so until you restart it."


class ListMonitor:
    """Compares list sizes once an hour, with one call for each account. Updates the alarms every 15 minutes.

    Args:
        lists: the Sailthru accounts by label.
        silent_after: how long an audience that had webhooks may have none; None for no limit.
        may_look_at_lists: takes the turn of this replica, once in the given time; None without other replicas.
    """

    def __init__(
        self,
        exports: Exports,
        lists: Mapping[str, Lists],
        clock: Callable[[], datetime],
        alarms: Alarms,
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
        self._alarms = alarms

    async def look(self) -> timedelta:
        """Do what is due. Returns when to look again.

        Raises:
            StoreUnavailable: the exports could not be read or written.
        """
        now = self._clock()
        # A clock that was set back must not delay the next look.
        if self._lists_at is None or not timedelta(0) <= now - self._lists_at < LOOK_AT_LISTS_EVERY:
            if self._may_look_at_lists is None or await self._may_look_at_lists(LOOK_AT_LISTS_EVERY):
                await self._look_at_lists()
            self._lists_at = now
        self._update_alarms(await self._exports.with_counts())
        return LOOK_EVERY

    async def _look_at_lists(self) -> None:
        before = {one.export.id: one for one in await self._exports.with_counts()}
        accounts = {one.export.account for one in before.values() if _is_watched(one.export)}
        for account in sorted(accounts & self._lists.keys()):
            lists = self._lists[account]
            try:
                index = await lists.index()
                confirmed = await self._exports.confirmed()
                after = [one for one in await self._exports.with_counts() if one.export.account == account]
                for one in after:
                    if _is_watched(one.export) and one.export.id in before:
                        await self._look_at(
                            lists, index, confirmed.get(one.export.id, ConfirmedCount()), before[one.export.id], one
                        )
            except CallFailed as failed:
                # Delivery raises the alarm if no calls work. The lists are looked at again in an hour.
                log.info("lists were not looked at", account=account, why=str(failed))

    async def _look_at(
        self,
        lists: Lists,
        index: Mapping[str, list[ListSeen]],
        confirmed: ConfirmedCount,
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
        kept = KnownList(
            export.list_id,
            confirmed.on_list,
            confirmed.in_doubt + confirmed_meanwhile,
            export.list_others,
            export.list_others_in_doubt,
        )
        found = judge(kept, seen)
        if found.change is not None:
            why = reason(found.change, name, export.id, found.jump)
            await self._exports.mark_list_changed(export.id, found.change, why)
        elif (found.others, found.others_in_doubt) != (export.list_others, export.list_others_in_doubt):
            await self._exports.record_list_check(export.id, list_others=found.others, in_doubt=found.others_in_doubt)

    def _update_alarms(self, reports: Sequence[ExportReport]) -> None:
        now = self._clock()
        alarms: list[Alarm] = []
        for one in reports:
            export, subject = one.export, Subject("export", one.export.id)
            if export.state is ExportState.LIST_CHANGED:
                meaning = "The list was changed in Sailthru, and the export has stopped."
                alarms.append(Alarm(AlarmName.LIST_CHANGED, subject, now, meaning, export.reason or ""))
            if self._has_fallen_silent(one, now):
                alarms.append(Alarm(AlarmName.SILENT, subject, now, SILENT_MEANING, SILENT_NEXT_STEP))
        self._alarms.replace({AlarmName.LIST_CHANGED, AlarmName.SILENT}, alarms)

    def _has_fallen_silent(self, report: ExportReport, now: datetime) -> bool:
        if self._silent_after is None or report.last_event_at is None or report.export.state not in WATCHED:
            return False
        return now - report.last_event_at > self._silent_after


def _is_watched(export: Export) -> bool:
    return export.state in WATCHED and export.list_ready_at is not None and export.list_name is not None
