"""Alarms: the calls to sinks and the lines in the log."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from app.alarms import Alarm, AlarmName, Alarms, Change, Subject
from tests.factories import NOON

EXPORT = Subject("export", 3)
SILENT = Alarm(AlarmName.SILENT, EXPORT, NOON, "No webhook has come.", "Check the job.", {"code": "x"})
CHANGED = replace(SILENT, name=AlarmName.LIST_CHANGED)


class Recorder:
    """Alarms with a sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.alarms = Alarms([lambda alarm, change: self.calls.append((alarm.name, change))])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_sinks_are_called_once_per_change(recorder: Recorder) -> None:
    for _ in range(2):
        recorder.alarms.raise_(SILENT)
    raised = recorder.alarms.is_raised(AlarmName.SILENT, EXPORT)
    for _ in range(2):
        recorder.alarms.resolve(AlarmName.SILENT, EXPORT)

    assert recorder.calls == [("silent", Change.RAISED), ("silent", Change.RESOLVED)]
    assert raised
    assert recorder.alarms.raised == []


def test_unannounced_alarm_is_raised_without_calling_sinks(recorder: Recorder) -> None:
    """Another replica has announced the alarm. Metrics still show it."""
    recorder.alarms.raise_(SILENT, announce=False)

    assert recorder.alarms.raised == [SILENT]
    assert recorder.calls == []


def test_replace_resolves_only_the_given_names(recorder: Recorder) -> None:
    other = replace(SILENT, subject=Subject("export", 4))
    recorder.alarms.raise_(CHANGED)
    recorder.alarms.replace({AlarmName.SILENT}, [SILENT])
    recorder.alarms.replace({AlarmName.SILENT}, [other])

    assert recorder.alarms.raised == [CHANGED, other]
    assert recorder.calls == [
        ("list_changed", Change.RAISED),
        ("silent", Change.RAISED),
        ("silent", Change.RAISED),
        ("silent", Change.RESOLVED),
    ]


def test_log_has_one_error_when_raised_and_one_info_when_resolved() -> None:
    alarms = Alarms()
    with capture_logs() as lines:
        alarms.raise_(SILENT)
        alarms.resolve(AlarmName.SILENT, EXPORT)

    assert lines == [
        {
            "event": "alarm raised",
            "log_level": "error",
            "alarm": "silent",
            "export": 3,
            "since": NOON.isoformat(),
            "meaning": "No webhook has come.",
            "next_step": "Check the job.",
            "code": "x",
        },
        {"event": "alarm resolved", "log_level": "info", "alarm": "silent", "export": 3},
    ]
