"""`member` with a real service."""

import re

import pytest

from tests.commands.conftest import ADA, BAD, Run
from tests.promises.processes import LIST, Service


def test_delivered_member(ask: Run) -> None:
    """The address may be written in any case."""
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


def test_dead_letter_shows_cause_and_next_step(ask: Run) -> None:
    ended = ask("member", BAD)

    assert ended.code == 0
    assert re.search(rf"1 +{LIST} +default +in +never +- +dead_letter", ended.out)
    assert "Export 1 (code 11): Sailthru does not accept this e-mail address as valid. Correct the address" in ended.out
    assert "The change for export 1 is now a dead letter." in ended.out


@pytest.mark.parametrize("email", ["unknown@example.com", "no-address", "we.ird+?#%/@example.com"])
def test_unknown_address(ask: Run, email: str) -> None:
    """The address may contain characters that have a meaning in URLs."""
    ended = ask("member", email)

    assert ended.code == 0
    assert ended.out == f"{email}\nThe service has no data about this address.\n"


def test_erased_address(ask: Run, service: Service) -> None:
    service.http.delete("/members/gone@example.com").raise_for_status()
    ended = ask("member", "gone@example.com")

    assert re.search(r"\nErased at 2\d{3}-[\d-]+ [\d:]+ UTC\. Events of this address are ignored\.\n", ended.out)
    assert ended.out.endswith("The service has no data about this address.\n")


def test_as_json(ask: Run, service: Service) -> None:
    ended = ask("member", ADA, "--json")

    assert ended.code == 0
    assert ended.out == service.http.get(f"/members/{ADA}").text + "\n"
    assert ended.err == ""
