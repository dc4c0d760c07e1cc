"""Monitors exports: raises an alarm if a list was changed in Sailthru or an export receives no more webhooks."""

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

LIST_CHECK_INTERVAL = timedelta(hours=1)
ALARM_INTERVAL = timedelta(minutes=15)
# Paused exports are monitored too, because a flow may use their lists.
MONITORED = frozenset({ExportState.RUNNING, ExportState.PAUSED})
SILENT_MEANING = "The export received webhooks before, but has received none for a long time."
SILENT_NEXT_STEP = "Check in Lytics that the job is running. Restart a failed job: it does not restart itself."


class ListMonitor:
    """Compares list sizes once an hour, with one call per account. Updates the alarms every 15 minutes.

    Args:
        lists: the lists of each Sailthru account, by label.
        silent_after: how long an export may receive no webhooks before the alarm; None for no limit.
        may_check_lists: returns True if no other replica has checked the lists within the given time; None without
            other replicas.
    """

    def __init__(
        self,
        exports: Exports,
        lists: Mapping[str, Lists],
        clock: Callable[[], datetime],
        alarms: Alarms,
        *,
        silent_after: timedelta | None,
        may_check_lists: Callable[[timedelta], Awaitable[bool]] | None = None,
    ) -> None:
        self._may_check_lists = may_check_lists
        self._exports = exports
        self._lists = lists
        self._clock = clock
        self._silent_after = silent_after
        self._lists_checked_at: datetime | None = None
        self._alarms = alarms

    async def run(self) -> timedelta:
        """Check the lists if that is due, and update the alarms. Return the interval until the next run.

        Raises:
            StoreUnavailable: the exports could not be read or written.
        """
        now = self._clock()
        # A clock that was set back must not delay the next check.
        if self._lists_checked_at is None or not timedelta(0) <= now - self._lists_checked_at < LIST_CHECK_INTERVAL:
            if self._may_check_lists is None or await self._may_check_lists(LIST_CHECK_INTERVAL):
                await self._check_lists()
            self._lists_checked_at = now
        self._update_alarms(await self._exports.with_counts())
        return ALARM_INTERVAL

    async def _check_lists(self) -> None:
        before = {report.export.id: report for report in await self._exports.with_counts()}
        accounts = {report.export.account for report in before.values() if _is_monitored(report.export)}
        for account in sorted(accounts & self._lists.keys()):
            lists = self._lists[account]
            try:
                index = await lists.index()
                confirmed = await self._exports.confirmed()
                for after in await self._exports.with_counts():
                    export = after.export
                    if export.account == account and _is_monitored(export) and export.id in before:
                        await self._check_list(
                            lists, index, confirmed.get(export.id, ConfirmedCount()), before[export.id], after
                        )
            except CallFailed as error:
                # Delivery raises an alarm if all calls fail. The lists are checked again in an hour.
                log.info("lists not checked", account=account, why=str(error))

    async def _check_list(
        self,
        lists: Lists,
        index: Mapping[str, list[ListSeen]],
        confirmed: ConfirmedCount,
        before: ExportReport,
        after: ExportReport,
    ) -> None:
        export = after.export
        name = export.list_name or ""
        candidates = index.get(name, [])
        first = candidates[0] if candidates else None
        seen = next((found for found in candidates if found.list_id == export.list_id), first)
        if seen is None:
            # The index may be incomplete, which must not stop an export.
            seen = await lists.find(name)
        confirmed_during_check = after.counts["delivered"] - before.counts["delivered"]
        known = KnownList(
            export.list_id,
            confirmed.on_list,
            confirmed.in_doubt + confirmed_during_check,
            export.list_others,
            export.list_others_in_doubt,
        )
        result = judge(known, seen)
        if result.change is not None:
            why = reason(result.change, name, export.id, result.jump)
            await self._exports.mark_list_changed(export.id, result.change, why)
        elif (result.others, result.others_in_doubt) != (export.list_others, export.list_others_in_doubt):
            await self._exports.record_list_check(export.id, list_others=result.others, in_doubt=result.others_in_doubt)

    def _update_alarms(self, reports: Sequence[ExportReport]) -> None:
        now = self._clock()
        alarms: list[Alarm] = []
        for report in reports:
            export, subject = report.export, Subject("export", report.export.id)
            if export.state is ExportState.LIST_CHANGED:
                meaning = "The list was changed in Sailthru, and the export has stopped."
                alarms.append(Alarm(AlarmName.LIST_CHANGED, subject, now, meaning, export.reason or ""))
            if self._is_silent(report, now):
                alarms.append(Alarm(AlarmName.SILENT, subject, now, SILENT_MEANING, SILENT_NEXT_STEP))
        self._alarms.replace({AlarmName.LIST_CHANGED, AlarmName.SILENT}, alarms)

    def _is_silent(self, report: ExportReport, now: datetime) -> bool:
        if self._silent_after is None or report.last_event_at is None or report.export.state not in MONITORED:
            return False
        return now - report.last_event_at > self._silent_after


def _is_monitored(export: Export) -> bool:
    return export.state in MONITORED and export.list_ready_at is not None and export.list_name is not None
