"""Tells what was found: a line for each thing, or JSON, and an exit code."""

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
    """On standard output, each with its mark, what happened and what to do."""
    width = max(len(one.about) for one in findings)
    for one in findings:
        sign, style = SIGNS[one.mark]
        words = " ".join(filter(None, (one.happened, one.next_step)))
        terminal.say(f"{sign} {one.about:<{width}}  {words}", style=style)


def as_json(findings: Sequence[Finding]) -> str:
    """`ok`, and each finding with `about`, `mark` (`ok`, `warning` or `failed`), `happened` and `next_step`."""
    return json.dumps({"ok": exit_code(findings) == 0, "findings": [asdict(one) for one in findings]}, indent=2)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if the service could run, 1 if something failed, 2 if it is the settings."""
    failed = {one.about for one in findings if one.mark is Mark.FAILED}
    return (2 if SETTINGS in failed else 1) if failed else 0
