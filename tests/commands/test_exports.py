"""`export list` and `export show`, with a real service."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import respx

from tests.commands.conftest import Run
from tests.promises.processes import LIST, Service


@pytest.fixture
def export(service: Service) -> dict[str, Any]:
    return service.export()


@pytest.fixture
def mock() -> Iterator[respx.MockRouter]:
    """Mock the service."""
    with respx.mock(assert_all_called=False) as router:
        yield router


def test_list(ask: Run) -> None:
    ended = ask("export", "list")

    assert (ended.code, ended.err) == (0, "")
    assert re.search(rf"\n 1 +{LIST} +default +running +2 +0 +1 +2\d{{3}}-", ended.out)


def test_list_as_json(ask: Run, service: Service) -> None:
    ended = ask("export", "list", "--json")

    assert ended.out == service.http.get("/exports").text + "\n"


@pytest.mark.parametrize("reference", ["1", "spring_buyers", "Spring Buyers", LIST])
def test_show_by_any_reference(ask: Run, reference: str) -> None:
    """The counts of the changes add up to the total."""
    ended = ask("export", "show", reference)
    facts = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in ended.out.splitlines())

    assert (ended.code, ended.err) == (0, "")
    assert (facts["list"], facts["state"], facts["members"]) == (LIST, "running", "2")
    sum_ = re.sub(r"[^0-9+=]", "", facts["changes"])
    total, _, parts = sum_.partition("=")
    assert int(total) == sum(map(int, parts.split("+")))
    assert "1 delivered" in facts["changes"]
    assert re.fullmatch(r"\d\.\d s \(median\), \d\.\d s \(95 %\), last hour", facts["delivered within"])


def test_show_as_json(ask: Run, service: Service) -> None:
    ended = ask("export", "show", LIST, "--json")

    assert ended.out == service.http.get("/exports/1").text + "\n"


def test_list_shows_reasons_and_audiences_without_an_export(
    ask: Run, export: dict[str, Any], mock: respx.MockRouter
) -> None:
    """Others choose the names, so control characters are replaced and markup is not interpreted."""
    audience = {"id": "e5f6", "slug": "no_\x1b[31mname", "name": None}
    waiting = {"list": None, "state": "needs_name", "reason": "Give it a name.", "audience": audience}
    unexported = {
        "audience_id": "a7",
        "audience_slug": "[red]x[/red] :smile:",
        "events": 3,
        "last_event_at": "2026-11-25T12:00:00Z",
    }
    mock.get(path="/exports").respond(json={"items": [export | waiting], "unexported": [unexported]})
    ended = ask("export", "list")

    assert "Export 1: Give it a name." in ended.out
    assert re.search(r"a7 +\[red\]x\[/red\] :smile: +3 +2026-11-25 12:00:00", ended.out)
    assert "\x1b" not in ended.out


def test_list_without_exports_names_the_command_to_start_one(ask: Run, mock: respx.MockRouter) -> None:
    mock.get(path="/exports").respond(json={"items": [], "unexported": []})

    assert "`lytics-sailthru export start AUDIENCE`" in ask("export", "list").out
