"""A timeline in plain words."""

from typing import Any

import pytest

from app.commands.timeline import in_words

NOON_NS = 1_776_009_600_000_000_000


def entry(what: str, detail: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"what": what, "detail": detail, "export_id": None, "explanation": None} | more


@pytest.mark.parametrize(
    ("confirmed", "words"),
    [
        (
            entry("received", {"kind": "enter", "verdict": "accepted", "moved_at_ns": NOON_NS}, export_id=1),
            "Lytics: entered the audience at 2026-04-12 16:00:00 (export 1): kept.",
        ),
        (
            entry("received", {"kind": "exit", "verdict": "stale", "moved_at_ns": NOON_NS}, export_id=2),
            "Lytics: left the audience at 2026-04-12 16:00:00 (export 2): known already, or older than what is held.",
        ),
        (
            entry("received", {"kind": "change", "verdict": "ignored", "clock_corrected": True}, export_id=1),
            "Lytics: has other fields (export 1): moves nobody that is held. Its time lay ahead: arrival counts.",
        ),
        (
            entry("called", {"attempt": 2, "read": False, "join": ["A", "B"], "leave": ["C"], "vars": ["city"]}),
            "Sailthru is called: join A, B; leave C; set city (attempt 2).",
        ),
        (
            entry("called", {"attempt": 1, "read": True, "join": [], "leave": [], "vars": []}),
            "Sailthru is asked which lists the person is on (attempt 1).",
        ),
        (
            entry("answered", {"outcome": "ok"}, explanation={"happened": "Sailthru confirmed all."}),
            "Sailthru confirmed all.",
        ),
        (
            entry(
                "answered",
                {"outcome": "timeout", "retry_at": "2026-04-12T18:00:05+02:00"},
                explanation={"happened": "No answer came in time."},
            ),
            "No answer came in time. (code timeout) Called again from 2026-04-12 16:00:05 on.",
        ),
        (
            entry("answered", {"outcome": "11", "dead_exports": [1, 3]}, explanation={"happened": "Invalid."}),
            "Invalid. (code 11) Given up for export 1, 3: it is a dead letter now.",
        ),
        (entry("answered", {"outcome": "new"}), "The outcome was new. (code new)"),
        (entry("redriven", {"code": "11"}), "Put back by hand after it was given up (code 11)."),
        (entry("dreamt", {"of": "sheep"}), "dreamt: {'of': 'sheep'}"),
    ],
)
def test_each_kind_of_line(confirmed: dict[str, Any], words: str) -> None:
    """Also those that only a newer service writes."""
    assert in_words(confirmed) == words
