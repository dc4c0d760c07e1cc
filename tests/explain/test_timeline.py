"""The entries of a member's timeline as text."""

from typing import Any

import pytest

from app.explain.codes import explain
from app.explain.timeline import in_words

NOON_NS = 1_776_009_600_000_000_000


@pytest.mark.parametrize(
    ("what", "detail", "words"),
    [
        (
            "received",
            {"kind": "enter", "verdict": "accepted", "moved_at_ns": NOON_NS},
            "Lytics: entered the audience at 2026-04-12 16:00:00 (export 1): accepted.",
        ),
        (
            "received",
            {"kind": "exit", "verdict": "stale", "moved_at_ns": NOON_NS},
            (
                "Lytics: left the audience at 2026-04-12 16:00:00 (export 1): ignored, because the same or a newer"
                " change was stored before."
            ),
        ),
        (
            "received",
            {"kind": "change", "verdict": "ignored", "clock_corrected": True},
            (
                "Lytics: fields changed (export 1): ignored, because no stored membership is affected."
                " The event's time was in the future, so its arrival time counts."
            ),
        ),
        (
            "received",
            {"kind": "enter", "verdict": "accepted", "by_scan": True, "moved_at_ns": NOON_NS},
            "A backfill found the member in the audience (export 1): accepted.",
        ),
        (
            "called",
            {"attempt": 2, "read": False, "join": ["A", "B"], "leave": ["C"], "vars": ["city"]},
            "Called Sailthru: join A, B; leave C; set city (attempt 2).",
        ),
        (
            "called",
            {"attempt": 1, "read": True, "join": [], "leave": [], "vars": []},
            "Asked Sailthru which lists the member is on (attempt 1).",
        ),
        ("answered", {"outcome": "ok"}, "Sailthru confirmed the call."),
        (
            "answered",
            {"outcome": "timeout", "retry_at": "2026-04-12T18:00:05+02:00"},
            f"{explain('timeout').happened} (code timeout) Next attempt at 2026-04-12 16:00:05.",
        ),
        (
            "answered",
            {"outcome": "11", "dead_exports": [1, 3]},
            f"{explain('11').happened} (code 11) The change for export 1, 3 is now a dead letter.",
        ),
        ("cancelled", {}, "Export 1 was stopped. Its pending change was cancelled."),
        ("redriven", {"code": "11"}, "An operator redrove the dead letter (code 11)."),
    ],
)
def test_each_kind_of_entry_becomes_text(what: str, detail: dict[str, Any], words: str) -> None:
    assert in_words(what, detail, 1) == words


@pytest.mark.parametrize(
    ("what", "detail", "words"),
    [
        ("answered", {"outcome": "new"}, f"{explain('new').happened} (code new)"),
        ("received", {"kind": "merge", "verdict": "later"}, "Lytics: merge (export 1): later."),
        ("archived", {"by": "retention"}, "archived: {'by': 'retention'}"),
    ],
)
def test_unknown_entry_of_a_newer_version_is_shown_unchanged(what: str, detail: dict[str, Any], words: str) -> None:
    assert in_words(what, detail, 1) == words
