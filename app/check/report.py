"""Renders findings as lines or JSON, and as an exit code."""

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
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        sign, style = SIGNS[finding.mark]
        text = " ".join(filter(None, (finding.happened, finding.next_step)))
        terminal.say(f"{sign} {finding.about:<{width}}  {text}", style=style)


def as_json(findings: Sequence[Finding]) -> str:
    """Return `ok`, and each finding with `about`, `mark` (`ok`, `warning` or `failed`), `happened` and `next_step`."""
    return json.dumps({"ok": exit_code(findings) == 0, "findings": [asdict(finding) for finding in findings]}, indent=2)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if the service can run, 2 if a setting is wrong, 1 if anything else failed."""
    failed = {finding.about for finding in findings if finding.mark is Mark.FAILED}
    return (2 if SETTINGS in failed else 1) if failed else 0
