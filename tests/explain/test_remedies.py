"""Remedies: the command line names commands where the API names calls."""

import re

import pytest

from app.domain.list_check import ListChange, reason
from app.explain.remedies import as_commands
from app.exports.name import BY_HAND


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (BY_HAND.format(id=3), "Name it by hand: lytics-sailthru export name 3 NAME."),
        ('PATCH /exports/2 {"state": "running"}.', "lytics-sailthru export resume 2."),
        ("Cancel it: DELETE /exports/3/backfills/7.", "Cancel it: lytics-sailthru export backfill 3 --cancel."),
        ("Stop one of them: DELETE /exports/12.", "Stop one of them: lytics-sailthru export stop 12."),
        (
            "Only POST /exports with its audience starts it again.",
            "Only lytics-sailthru export start AUDIENCE starts it again.",
        ),
        (
            "There is no export 9. GET /exports lists them.",
            "There is no export 9. lytics-sailthru export list lists them.",
        ),
        (
            'Let the export adopt it: "adopt": 1. If not: Give this audience\'s list another name: "name".',
            "Let the export adopt it: --adopt 1. If not: Give this audience's list another name: --name NAME.",
        ),
        ("GET /lytics/fields lists its fields.", "GET /lytics/fields lists its fields."),
        ("The list is gone.", "The list is gone."),
    ],
)
def test_api_call_is_shown_as_the_command_that_does_the_same(text: str, shown: str) -> None:
    assert as_commands(text) == shown


@pytest.mark.parametrize("change", ListChange)
def test_reason_of_a_changed_list_names_the_command_that_resumes(change: ListChange) -> None:
    shown = as_commands(reason(change, "Lytics Spring Buyers", 7, jump=-1200))

    assert shown.endswith(" lytics-sailthru export resume 7.")
    assert not re.search(r"\b(GET|POST|PATCH|DELETE) /", shown)
