"""`redrive` with a real service. Each redrive ends in the same dead letter again."""

import json

import pytest

from tests.commands.conftest import BAD, Run
from tests.promises.processes import LIST, Service, until


def attempts(service: Service) -> int:
    """Wait until nothing is pending, and return the number of refusals by Sailthru."""
    until(service.export, lambda export: (export["counts"]["pending"], export["counts"]["dead"]) == (0, 1))
    timeline = service.http.get(f"/members/{BAD}").json()["timeline"]
    return sum(line["detail"].get("outcome") == "11" for line in timeline)


@pytest.mark.parametrize(
    "options",
    [
        ("--all",),
        ("--code", "11"),
        ("--export", "1"),
        ("--export", LIST),
        ("--email", BAD.upper()),
        ("--code", "11", "--export", "spring_buyers", "--email", BAD),
    ],
)
def test_preview_only_counts(ask: Run, service: Service, options: tuple[str, ...]) -> None:
    before = attempts(service)
    ended = ask("redrive", *options, "--preview")
    as_json = ask("redrive", *options, "--preview", "--json", "--yes")

    assert (ended.code, ended.out, ended.err) == (0, "Dead letters that would be redriven: 1.\n", "")
    assert json.loads(as_json.out) == {"redriven": 0, "would_redrive": 1}
    assert attempts(service) == before


def test_yes_redrives_without_a_question(ask: Run, service: Service) -> None:
    before = attempts(service)
    ended = ask("redrive", "--code", "11", "--yes")

    assert (ended.code, ended.out, ended.err) == (0, "Dead letters redriven: 1.\n", "")
    assert attempts(service) == before + 1


def test_json_is_the_answer_of_the_service(ask: Run, service: Service) -> None:
    before = attempts(service)
    ended = ask("redrive", "--all", "--yes", "--json")

    assert (ended.code, ended.out, ended.err) == (0, '{"redriven":1}\n', "")
    assert attempts(service) == before + 1


def test_without_a_terminal_and_yes_nothing_is_changed(ask: Run, service: Service) -> None:
    before = attempts(service)
    ended = ask("redrive", "--all")

    assert (ended.code, ended.out) == (2, "")
    assert "Redrive dead letters: 1." in ended.err
    assert "Add --yes" in ended.err
    assert attempts(service) == before


@pytest.mark.parametrize("options", [("--code", "32"), ("--email", "unknown@example.com")])
def test_no_match_needs_no_confirmation(ask: Run, options: tuple[str, ...]) -> None:
    ended = ask("redrive", *options)

    assert (ended.code, ended.out, ended.err) == (0, "No dead letters match.\n", "")


@pytest.mark.parametrize("words", [(), ("--yes",), ("--all", "--code", "11"), ("--all", "--email", BAD)])
def test_selection_is_required(ask: Run, service: Service, words: tuple[str, ...]) -> None:
    before = attempts(service)
    ended = ask("redrive", *words)

    assert (ended.code, ended.out) == (2, "")
    assert "choose --code" in ended.err
    assert attempts(service) == before


def test_unknown_export_is_refused(ask: Run) -> None:
    ended = ask("redrive", "--export", "unknown", "--yes")

    assert (ended.code, ended.out) == (1, "")
    assert "There is no export unknown. There are:\n  1  " in ended.err
