"""`redrive` against a real service, which gives up the same person again each time."""

import json

import pytest

from tests.commands.conftest import BAD, Run
from tests.promises.processes import LIST, Service, until


def attempts(service: Service) -> int:
    """How often Sailthru refused it by now; nothing waits any more."""
    until(service.export, lambda export: (export["counts"]["pending"], export["counts"]["dead"]) == (0, 1))
    timeline = service.http.get(f"/members/{BAD}").json()["timeline"]
    return sum(line["detail"].get("outcome") == "11" for line in timeline)


@pytest.mark.parametrize(
    "which",
    [
        ("--all",),
        ("--code", "11"),
        ("--export", "1"),
        ("--export", LIST),
        ("--email", BAD.upper()),
        ("--code", "11", "--export", "spring_buyers", "--email", BAD),
    ],
)
def test_a_preview_only_counts(ask: Run, service: Service, which: tuple[str, ...]) -> None:
    """Nobody is asked, since nothing is done."""
    before = attempts(service)
    ended = ask("redrive", *which, "--preview")
    as_json = ask("redrive", *which, "--preview", "--json", "--yes")

    assert (ended.code, ended.out, ended.err) == (0, "Dead letters: 1 would be told again.\n", "")
    assert json.loads(as_json.out) == {"redriven": 0, "would_redrive": 1}
    assert attempts(service) == before


def test_with_yes_it_is_done(ask: Run, service: Service) -> None:
    before = attempts(service)
    ended = ask("redrive", "--code", "11", "--yes")

    assert (ended.code, ended.out, ended.err) == (0, "Dead letters: 1 are told again now.\n", "")
    assert attempts(service) == before + 1


def test_json_is_the_answer_of_what_was_done(ask: Run, service: Service) -> None:
    before = attempts(service)
    ended = ask("redrive", "--all", "--yes", "--json")

    assert (ended.code, ended.out, ended.err) == (0, '{"redriven":1}\n', "")
    assert attempts(service) == before + 1


def test_where_nobody_can_be_asked_nothing_is_done(ask: Run, service: Service) -> None:
    """It says how many it would have been, and how to say yes."""
    before = attempts(service)
    ended = ask("redrive", "--all")

    assert (ended.code, ended.out) == (2, "")
    assert "will be told again: 1." in ended.err
    assert "Say --yes" in ended.err
    assert attempts(service) == before


@pytest.mark.parametrize("which", [("--code", "32"), ("--email", "who@example.com")])
def test_where_there_are_none_nobody_is_asked(ask: Run, which: tuple[str, ...]) -> None:
    ended = ask("redrive", *which)

    assert (ended.code, ended.out, ended.err) == (0, "Dead letters: There are none.\n", "")


@pytest.mark.parametrize("words", [(), ("--yes",), ("--all", "--code", "11"), ("--all", "--email", BAD)])
def test_it_has_to_be_said_which(ask: Run, service: Service, words: tuple[str, ...]) -> None:
    """Everything is never meant by saying nothing."""
    before = attempts(service)
    ended = ask("redrive", *words)

    assert (ended.code, ended.out) == (2, "")
    assert "say which" in ended.err
    assert attempts(service) == before


def test_an_export_that_there_is_not(ask: Run) -> None:
    ended = ask("redrive", "--export", "nobody", "--yes")

    assert (ended.code, ended.out) == (1, "")
    assert "There is no export nobody. There are:\n  1  " in ended.err
