"""`member` against a real service."""

import re

import pytest

from tests.commands.conftest import ADA, BAD, Run
from tests.promises.processes import LIST, Service


def test_who_was_told(ask: Run) -> None:
    """In any spelling of the address: the list, what was told, and each step on the way."""
    ended = ask("member", " Ada@Example.COM")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{ADA}\n")
    assert re.search(rf"1 +{LIST} +default +in +in +2\d{{3}}-[\d :-]+ +settled +-", ended.out)
    lines = [line.split("  ", 1)[1].strip() for line in ended.out.splitlines() if re.match(r" 2\d{3}-", line)]
    assert [re.sub(r" at 2[\d-]+ [\d:]+", "", line) for line in lines] == [
        "Lytics: entered the audience (export 1): accepted.",
        f"Called Sailthru: join {LIST} (attempt 1).",
        "Sailthru confirmed the call.",
    ]


def test_who_was_given_up(ask: Run) -> None:
    """Why, and what to do."""
    ended = ask("member", BAD)

    assert ended.code == 0
    assert re.search(rf"1 +{LIST} +default +in +never +- +dead_letter", ended.out)
    assert "Export 1 (code 11): Sailthru does not accept this e-mail address as valid. Correct the address" in ended.out
    assert "The change for export 1 is now a dead letter." in ended.out


@pytest.mark.parametrize("email", ["who@example.com", "nobody", "we.ird+?#%/@example.com"])
def test_a_stranger(ask: Run, email: str) -> None:
    """Also under a name that would mean something else in an address of the web."""
    ended = ask("member", email)

    assert ended.code == 0
    assert ended.out == f"{email}\nNothing is known of this address.\n"


def test_who_was_erased(ask: Run, service: Service) -> None:
    """Since when; nothing else is known."""
    service.http.delete("/members/gone@example.com").raise_for_status()
    ended = ask("member", "gone@example.com")

    assert re.search(r"\nErased at 2\d{3}-[\d-]+ [\d:]+ UTC, and kept out since\.\n", ended.out)
    assert ended.out.endswith("Nothing is known of this address.\n")


def test_as_json(ask: Run, service: Service) -> None:
    ended = ask("member", ADA, "--json")

    assert ended.code == 0
    assert ended.out == service.http.get(f"/members/{ADA}").text + "\n"
    assert ended.err == ""
