"""The entries of a member's timeline as text."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.explain.codes import explain

_KINDS = {"enter": "entered the audience", "exit": "left the audience", "change": "fields changed"}
_VERDICTS = {
    "accepted": "accepted",
    "stale": "ignored, because the same or a newer change was stored before",
    "ignored": "ignored, because no stored membership is affected",
}


def in_words(what: str, detail: Mapping[str, Any], export_id: int | None) -> str:
    """Return one timeline entry as text.

    A newer version may have written entries of other kinds. Their details are shown unchanged.

    Args:
        what: `received`, `called`, `answered`, `cancelled` or `redriven`.
        detail: the stored details of the entry.
    """
    match what:
        case "received":
            return _received(detail, export_id)
        case "called":
            return _called(detail)
        case "answered":
            return _answered(detail)
        case "cancelled":
            return f"Export {export_id} was stopped. Its pending change was cancelled."
        case "redriven":
            return f"An operator redrove the dead letter (code {detail.get('code')})."
        case _:
            return f"{what}: {detail}"


def _received(detail: Mapping[str, Any], export_id: int | None) -> str:
    kind, verdict = str(detail.get("kind")), str(detail.get("verdict"))
    outcome = _VERDICTS.get(verdict, verdict)
    if detail.get("by_scan"):
        return f"A backfill found the member in the audience (export {export_id}): {outcome}."
    moved_at_ns = detail.get("moved_at_ns")
    when = ""
    if isinstance(moved_at_ns, int):
        when = f" at {datetime.fromtimestamp(moved_at_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}"
    words = f"Lytics: {_KINDS.get(kind, kind)}{when} (export {export_id}): {outcome}."
    if detail.get("clock_corrected"):
        words += " The event's time was in the future, so its arrival time counts."
    return words


def _called(detail: Mapping[str, Any]) -> str:
    attempt = detail.get("attempt")
    if detail.get("read"):
        return f"Asked Sailthru which lists the member is on (attempt {attempt})."
    parts = [
        f"{verb} {', '.join(detail[key])}"
        for key, verb in (("join", "join"), ("leave", "leave"), ("vars", "set"))
        if detail.get(key)
    ]
    return f"Called Sailthru: {'; '.join(parts)} (attempt {attempt})."


def _answered(detail: Mapping[str, Any]) -> str:
    outcome = str(detail.get("outcome"))
    words = explain(outcome).happened
    if outcome != "ok":
        words += f" (code {outcome})"
    if detail.get("dead_exports"):
        exports = ", ".join(map(str, detail["dead_exports"]))
        words += f" The change for export {exports} is now a dead letter."
    retry_at = detail.get("retry_at")
    if isinstance(retry_at, str):
        words += f" Next attempt at {datetime.fromisoformat(retry_at).astimezone(UTC):%Y-%m-%d %H:%M:%S}."
    return words
