"""API calls in the service's texts become commands."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.commands.remedies import CALL, translated, with_commands
from tests.command_line import API_CALL

APP = Path(__file__).parents[2] / "app"
# The command line prints no texts of these packages.
OTHERS = ("commands", "sandbox", "demo")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'Look at it, then: PATCH /exports/2 {"state": "running"}.',
            "Look at it, then: `lytics-sailthru export resume 2`.",
        ),
        ('PATCH /exports/2 {"state": "paused"}', "`lytics-sailthru export pause 2`"),
        (
            'Name it: PATCH /exports/12 {"name": "the audience\'s name"}.',
            "Name it: `lytics-sailthru export name 12 NAME`.",
        ),
        (
            "Stop one of them: DELETE /exports/7. Or wait.",
            "Stop one of them: `lytics-sailthru export stop 7`. Or wait.",
        ),
        ("Cancel it: DELETE /exports/7/backfills/9.", "Cancel it: `lytics-sailthru export backfill 7 --cancel`."),
        (
            'Compare: POST /exports/7/backfills {"dry_run": true}, then decide.',
            "Compare: `lytics-sailthru export backfill 7`, then decide.",
        ),
        (
            "POST /exports with its audience starts it again.",
            "`lytics-sailthru export start AUDIENCE` starts it again.",
        ),
        ("GET /exports lists them.", "`lytics-sailthru export list` lists them."),
        ("See GET /exports/3.", "See `lytics-sailthru export show 3`."),
        ("See GET /members/ada@example.com.", "See `lytics-sailthru member ada@example.com`."),
        ("See GET /dead-letters.", "See `lytics-sailthru redrive --all --preview`."),
        (
            "None. GET /lytics/audiences lists them, see also GET /lytics/fields.",
            "None. The page Audiences in Lytics lists them, see also the schema of user fields in Lytics.",
        ),
        (
            'Let the export adopt it: "adopt": 1. If not: Give this audience\'s list another name: "name".',
            "Let the export adopt it: --adopt 1. If not: Give this audience's list another name: --name NAME.",
        ),
        ("Look at GET /health/ready and at the log.", "Look at `lytics-sailthru check` and at the log."),
        ("Undo it with DELETE /erasures/ada@example.com.", "Undo it with the service's API."),
        (
            'Call `PATCH /exports/2 with {"state": "running"}`, or `DELETE /exports/2`.',
            "Call `lytics-sailthru export resume 2`, or `lytics-sailthru export stop 2`.",
        ),
        (
            "Call `POST /exports` with the same audience.",
            "Call `lytics-sailthru export start AUDIENCE` with the same audience.",
        ),
        ("POST /user was refused.", "The service's API was refused."),
        ("Nothing to GET here; POST it / PATCH it.", "Nothing to GET here; POST it / PATCH it."),
    ],
)
def test_call_becomes_command(text: str, expected: str) -> None:
    assert with_commands(text) == expected


def test_only_sentences_are_translated() -> None:
    """A name may look like a call."""
    call = "DELETE /exports/3"
    answer = {
        "audience": {"name": call},
        "reason": call,
        "notes": [call],
        "memberships": [{"list": call, "explanation": {"happened": call, "next_step": call}}],
    }
    command = "`lytics-sailthru export stop 3`"

    assert translated(answer) == {
        "audience": {"name": call},
        "reason": command,
        "notes": [command],
        "memberships": [{"list": call, "explanation": {"happened": command, "next_step": command}}],
    }


@cache
def texts() -> tuple[str, ...]:
    """Return the string literals of the service that name a call, without docstrings; placeholders become 7."""
    return tuple(_texts())


def _texts() -> Iterator[str]:
    for path in APP.rglob("*.py"):
        if path.relative_to(APP).parts[0] in OTHERS:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
            else:
                continue
            text = re.sub(r"\{\{(.*?)\}\}", r"{\1}", re.sub(r"(?<!\{)\{\w+\}(?!\})", "7", text))
            if CALL.search(text):
                yield text


def test_no_text_of_the_service_leaves_a_call() -> None:
    assert texts()
    assert [text for text in texts() if API_CALL.search(with_commands(text))] == []


def test_remedies_about_exports_have_commands() -> None:
    """The fallback "the service's API" is for calls that the command line does not offer."""
    about_exports = [text for text in texts() if re.search(r"\b(?:GET|POST|PATCH|DELETE) /exports", text)]

    assert len(about_exports) >= 5
    assert [text for text in about_exports if "the service's API" in with_commands(text).lower()] == []
