"""Prints findings as lines or JSON, and derives the exit code."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

from app import terminal
from app.check.findings import SETTINGS, Finding, Mark

SIGNS: Mapping[Mark, tuple[str, str]] = MappingProxyType(
    {Mark.OK: ("✓", "green"), Mark.WARNING: ("!", "yellow"), Mark.FAILED: ("✗", "red")}
)


def show(findings: Sequence[Finding]) -> None:
    """Print one line for each finding."""
    width = max(len(one.about) for one in findings)
    for one in findings:
        sign, style = SIGNS[one.mark]
        words = " ".join(filter(None, (one.happened, one.next_step)))
        terminal.say(f"{sign} {one.about:<{width}}  {words}", style=style)


def as_json(findings: Sequence[Finding]) -> str:
    """Return `ok`, and each finding with `about`, `mark` (`ok`, `warning` or `failed`), `happened` and `next_step`."""
    return json.dumps({"ok": exit_code(findings) == 0, "findings": [asdict(one) for one in findings]}, indent=2)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if the service can run, 2 if a setting is wrong, 1 if anything else failed."""
    failed = {one.about for one in findings if one.mark is Mark.FAILED}
    return (2 if SETTINGS in failed else 1) if failed else 0
