"""Alarms: conditions that need an operator.

The part of the service that detects a condition raises the alarm and resolves it. Sinks report both changes; the log is
one sink. The gauge of silent exports reads the raised alarms when metrics are scraped.
`app.main` chooses the sinks.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import structlog

log = structlog.get_logger(__name__)


class AlarmName(StrEnum):
    """The names of all alarms."""

    ACCOUNT_REFUSED = "account_refused"
    ACCOUNT_OUTAGE = "account_outage"
    LIST_CHANGED = "list_changed"
    SILENT = "silent"
    ERASURE_KEY = "erasure_key"


class Change(StrEnum):
    """A change of an alarm's state."""

    RAISED = "raised"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of an alarm, such as the account `default` or export 3."""

    kind: str
    id: str | int


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition that needs an operator. It contains no personal data.

    Args:
        meaning: the problem, in one sentence.
        next_step: the action that the operator should take.
        details: further values for the log, such as an error code.
    """

    name: AlarmName
    subject: Subject
    since: datetime
    meaning: str
    next_step: str
    details: Mapping[str, object] = field(default_factory=dict)


Sink = Callable[[Alarm, Change], None]


def log_alarm(alarm: Alarm, change: Change) -> None:
    """Write one ERROR line when an alarm is raised, and one INFO line when it is resolved."""
    subject = {alarm.subject.kind: alarm.subject.id}
    if change is Change.RESOLVED:
        log.info("alarm resolved", alarm=str(alarm.name), **subject)
        return
    log.error(
        "alarm raised",
        alarm=str(alarm.name),
        **subject,
        since=alarm.since.isoformat(),
        meaning=alarm.meaning,
        next_step=alarm.next_step,
        **alarm.details,
    )


class Alarms:
    """The alarms that are raised now. They are kept in memory, so a restart raises them again.

    Args:
        sinks: called once when an alarm is raised and once when it is resolved.
    """

    def __init__(self, sinks: Sequence[Sink] = (log_alarm,)) -> None:
        self._sinks = sinks
        self._raised: dict[tuple[AlarmName, Subject], Alarm] = {}

    @property
    def raised(self) -> list[Alarm]:
        """All raised alarms, oldest first."""
        return list(self._raised.values())

    def is_raised(self, name: AlarmName, subject: Subject) -> bool:
        return (name, subject) in self._raised

    def raise_(self, alarm: Alarm, *, announce: bool = True) -> None:
        """Raise an alarm. An alarm that is already raised does not change.

        Args:
            announce: call the sinks; False if another replica has announced the condition.
        """
        key = (alarm.name, alarm.subject)
        if key not in self._raised:
            self._raised[key] = alarm
            self._announce(alarm, Change.RAISED, announce=announce)

    def resolve(self, name: AlarmName, subject: Subject, *, announce: bool = True) -> None:
        """Resolve an alarm, if it is raised."""
        alarm = self._raised.pop((name, subject), None)
        if alarm is not None:
            self._announce(alarm, Change.RESOLVED, announce=announce)

    def replace(self, names: Collection[AlarmName], alarms: Collection[Alarm]) -> None:
        """Raise the given alarms, and resolve every other alarm that has one of the names."""
        given = {(alarm.name, alarm.subject) for alarm in alarms}
        for alarm in alarms:
            self.raise_(alarm)
        for name, subject in [key for key in self._raised if key[0] in names and key not in given]:
            self.resolve(name, subject)

    def _announce(self, alarm: Alarm, change: Change, *, announce: bool) -> None:
        for sink in self._sinks if announce else ():
            sink(alarm, change)
