"""Alarms: when sinks are called, and what the log says."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from app.alarms import Alarm, AlarmName, Alarms, Change, Subject
from tests.factories import NOON

EXPORT = Subject("export", 3)
SILENT = Alarm(AlarmName.SILENT, EXPORT, NOON, "No webhook has come.", "Check the job.", {"code": "x"})
CHANGED = replace(SILENT, name=AlarmName.LIST_CHANGED)


class News:
    """Alarms with a sink that records what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.alarms = Alarms([lambda alarm, change: self.heard.append((alarm.name, change))])


@pytest.fixture
def news() -> News:
    return News()


def test_sinks_are_called_once_per_change(news: News) -> None:
    for _ in range(2):
        news.alarms.raise_(SILENT)
    raised = news.alarms.is_raised(AlarmName.SILENT, EXPORT)
    for _ in range(2):
        news.alarms.resolve(AlarmName.SILENT, EXPORT)

    assert news.heard == [("silent", Change.RAISED), ("silent", Change.RESOLVED)]
    assert raised
    assert news.alarms.raised == []


def test_unannounced_alarm_is_raised_without_calling_sinks(news: News) -> None:
    """Another replica announced it. Metrics show it all the same."""
    news.alarms.raise_(SILENT, announce=False)

    assert news.alarms.raised == [SILENT]
    assert news.heard == []


def test_replace_resolves_only_the_given_names(news: News) -> None:
    other = replace(SILENT, subject=Subject("export", 4))
    news.alarms.raise_(CHANGED)
    news.alarms.replace({AlarmName.SILENT}, [SILENT])
    news.alarms.replace({AlarmName.SILENT}, [other])

    assert news.alarms.raised == [CHANGED, other]
    assert news.heard == [
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
