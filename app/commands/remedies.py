"""Replaces API calls in the service's texts with commands.

The service's texts name API calls as remedies (`PATCH /exports/2 {"state": "running"}`). The command line shows the
command that makes the same call (`lytics-sailthru export resume 2`).
"""

import re
from functools import partial
from typing import Any

PROGRAM = "lytics-sailthru"
# The fields of the service's answers that hold sentences.
PROSE = frozenset({"detail", "rule", "reason", "waiting_for", "notes", "happened", "affected", "next_step"})

CALL = re.compile(r"`?\b(?:GET|HEAD|POST|PUT|PATCH|DELETE) /(?:[^\s,;:`]*[^\s,;:.!?)`])?(?:(?: with)? \{.*?\})?`?")
_ID = r"(?P<id>\d+)"
_BODY = r"(?:(?: with)? \{.*?\})?"
_END = r"(?![\w/])"
_COMMANDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"`?\b{call}{_END}`?"), command)
    for call, command in (
        (rf'PATCH /exports/{_ID}(?: with)? \{{"name": .*?\}}', r"export name \g<id> NAME"),
        (rf'PATCH /exports/{_ID}(?: with)? \{{"state": "running"\}}', r"export resume \g<id>"),
        (rf'PATCH /exports/{_ID}(?: with)? \{{"state": "paused"\}}', r"export pause \g<id>"),
        (rf"DELETE /exports/{_ID}/backfills/\d+", r"export backfill \g<id> --cancel"),
        (rf"(?:GET|POST) /exports/{_ID}/backfills(?:/\d+)?{_BODY}", r"export backfill \g<id>"),
        (rf"GET /exports/{_ID}", r"export show \g<id>"),
        (rf"DELETE /exports/{_ID}", r"export stop \g<id>"),
        (r"GET /exports", r"export list"),
        (rf"POST /exports(?: with (?:its|this|the|the same) audience)?{_BODY}", r"export start AUDIENCE"),
        (r"GET /members/(?P<email>[^\s/,;]*[^\s/,;.])", r"member \g<email>"),
        (rf"POST /dead-letters/redrive{_BODY}", r"redrive --all"),
        (r"GET /dead-letters", r"redrive --all --preview"),
        (r"GET /health(?:/ready)?", r"check"),
    )
)
# These calls have no command, so the text names another source of the answer.
_SOURCES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"`?\bGET /lytics/audiences{_END}`?"), "the page Audiences in Lytics"),
    (re.compile(rf"`?\bGET /lytics/fields{_END}`?"), "the schema of user fields in Lytics"),
    (CALL, "the service's API"),
)
# Fields of a request become options of the command.
_OPTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'"adopt": (\d+)'), r"--adopt \1"),
    (re.compile(r'another name: "name"'), "another name: --name NAME"),
)


def command(*words: object) -> str:
    """Return a command of ours in the form for sentences."""
    return f"`{PROGRAM} {' '.join(map(str, words))}`"


def with_commands(text: str) -> str:
    """Return the text with a command, or another source, in place of each API call."""
    for pattern, words in _COMMANDS:
        text = pattern.sub(f"`{PROGRAM} {words}`", text)
    for pattern, option in _OPTIONS:
        text = pattern.sub(option, text)
    for pattern, source in _SOURCES:
        text = pattern.sub(partial(_in_sentence, source), text)
    return text


def translated(data: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of the service with commands in its sentences. All other fields stay."""
    return {name: _translated(value, is_prose=name in PROSE) for name, value in data.items()}


def _translated(value: object, *, is_prose: bool) -> object:
    if isinstance(value, dict):
        return translated(value)
    if isinstance(value, list):
        return [_translated(item, is_prose=is_prose) for item in value]
    return with_commands(value) if is_prose and isinstance(value, str) else value


def _in_sentence(source: str, call: re.Match[str]) -> str:
    before = call.string[: call.start()].rstrip()
    is_first = not before or before[-1] in ".!?"
    return source[0].upper() + source[1:] if is_first else source
