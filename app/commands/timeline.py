"""A line of a person's timeline in plain words."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

KINDS = {"enter": "entered the audience", "exit": "left the audience", "change": "has other fields"}
VERDICTS = {
    "accepted": "kept",
    "stale": "known already, or older than what is held",
    "ignored": "moves nobody that is held",
}


def in_words(entry: Mapping[str, Any]) -> str:
    """What happened, in one sentence; an entry of a kind that is not known here as it came."""
    detail = entry["detail"]
    match entry["what"]:
        case "received":
            return _received(entry, detail)
        case "called":
            return _called(detail)
        case "answered":
            return _answered(entry, detail)
        case "cancelled":
            return f"The export {entry['export_id']} was stopped: what was not told by then was cancelled."
        case "redriven":
            return f"Put back by hand after it was given up (code {detail.get('code')})."
        case other:
            return f"{other}: {detail}"


def _received(entry: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    kind, verdict = str(detail.get("kind")), str(detail.get("verdict"))
    if detail.get("by_scan"):
        return f"A backfill found them in the audience (export {entry['export_id']}): {VERDICTS.get(verdict, verdict)}."
    moved_at_ns = detail.get("moved_at_ns")
    when = ""
    if isinstance(moved_at_ns, int):
        when = f" at {datetime.fromtimestamp(moved_at_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}"
    words = f"Lytics: {KINDS.get(kind, kind)}{when} (export {entry['export_id']}): {VERDICTS.get(verdict, verdict)}."
    if detail.get("clock_corrected"):
        words += " Its time lay ahead: arrival counts."
    return words


def _called(detail: Mapping[str, Any]) -> str:
    parts = [
        f"{word} {', '.join(detail[key])}"
        for key, word in (("join", "join"), ("leave", "leave"), ("vars", "set"))
        if detail.get(key)
    ]
    what = "asked which lists the person is on" if detail.get("read") else f"called: {'; '.join(parts)}"
    return f"Sailthru is {what} (attempt {detail.get('attempt')})."


def _answered(entry: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    explanation = entry.get("explanation") or {}
    words = str(explanation.get("happened") or f"The outcome was {detail.get('outcome')}.")
    if detail.get("outcome") != "ok":
        words = f"{words} (code {detail.get('outcome')})"
    if detail.get("dead_exports"):
        exports = ", ".join(map(str, detail["dead_exports"]))
        words += f" Given up for export {exports}: it is a dead letter now."
    retry_at = detail.get("retry_at")
    if isinstance(retry_at, str):
        words += f" Called again from {datetime.fromisoformat(retry_at).astimezone(UTC):%Y-%m-%d %H:%M:%S} on."
    return words
