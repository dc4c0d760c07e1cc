"""Remedies in the reader's own interface: texts name the API call, and the command line shows its command instead."""

import re

_CALLS = [
    (r'PATCH /exports/(\d+) \{"name": "[^"]*"\}', r"lytics-sailthru export name \1 NAME"),
    (r'PATCH /exports/(\d+) \{"state": "running"\}', r"lytics-sailthru export resume \1"),
    (r"DELETE /exports/(\d+)/backfills/\d+", r"lytics-sailthru export backfill \1 --cancel"),
    (r"DELETE /exports/(\d+)", r"lytics-sailthru export stop \1"),
    (r"POST /exports with its audience", "lytics-sailthru export start AUDIENCE"),
    (r"GET /exports\b(?!/)", "lytics-sailthru export list"),
    # Members of the body of POST /exports.
    (r'"adopt": (\d+)', r"--adopt \1"),
    (r'another name: "name"', "another name: --name NAME"),
]
_COMMANDS = [(re.compile(call), command) for call, command in _CALLS]


def as_commands(text: str) -> str:
    """Return the text with each API call replaced by the command that does the same; other calls stay."""
    for call, command in _COMMANDS:
        text = call.sub(command, text)
    return text
