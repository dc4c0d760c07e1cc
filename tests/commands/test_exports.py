"""
`export`: what can be read, and naming, against a real service.

Starting, pausing, resuming and stopping are tried on answers in the form that the service will give them; see `Stub`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

from tests.commands.conftest import Run
from tests.promises.processes import LIST, Service

NOTES = ["Who is in the audience now is brought over by a backfill."]
PREVIEW = {
    "audience": {"id": "0a1b", "slug": "spring_buyers", "name": "Spring Buyers"},
    "authorization": "default",
    "list": LIST,
    "fields": {"first_name": "first_name", "city": "town"},
    "email_field": "email",
    "would": "start",
    "export_id": None,
    "notes": NOTES,
}


class Stub:
    """
    The calls that the service does not have yet, beside those that it has: what was asked, and answers in their form.
    """

    def __init__(self, router: respx.MockRouter, export: dict[str, Any]) -> None:
        self.start = router.post(path="/exports")
        self.start.respond(202, json={"export": export, "backfill": None, "notes": NOTES})
        self.change = router.patch(path="/exports/1")
        self.change.mock(side_effect=lambda request: self._changed(request, export))
        self.stop = router.delete(path="/exports/1")
        self.stop.respond(json=export | {"state": "stopped"})
        router.route().pass_through()

    @property
    def asked(self) -> Any:
        (call,) = self.start.calls
        return json.loads(call.request.content)

    @staticmethod
    def _changed(request: httpx.Request, export: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json=export | json.loads(request.content))


@pytest.fixture
def export(service: Service) -> dict[str, Any]:
    """
    The export as the service tells it now.
    """
    return service.export()


@pytest.fixture
def mock() -> Iterator[respx.MockRouter]:
    """
    From here on nothing reaches the service but what is passed on.
    """
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def stub(export: dict[str, Any], mock: respx.MockRouter) -> Stub:
    """
    In place from here on.
    """
    return Stub(mock, export | {"freshness": {"p50_seconds": 0.8, "p95_seconds": 2.14}})


class TestReading:
    def test_all_of_them(self, ask: Run) -> None:
        ended = ask("export", "list")

        assert (ended.code, ended.err) == (0, "")
        assert re.search(rf"\n 1 +{LIST} +default +running +2 +0 +1 +2\d{{3}}-", ended.out)

    def test_all_of_them_as_json(self, ask: Run, service: Service) -> None:
        ended = ask("export", "list", "--json")

        assert ended.out == service.http.get("/exports").text + "\n"

    @pytest.mark.parametrize("reference", ["1", "spring_buyers", "Spring Buyers", LIST])
    def test_one_by_whatever_name(self, ask: Run, reference: str) -> None:
        """
        The counts, as a sum that adds up.
        """
        ended = ask("export", "show", reference)
        facts = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in ended.out.splitlines())

        assert (ended.code, ended.err) == (0, "")
        assert (facts["list"], facts["state"], facts["members"]) == (LIST, "running", "2")
        sum_ = re.sub(r"[^0-9+=]", "", facts["changes"])
        total, _, parts = sum_.partition("=")
        assert int(total) == sum(map(int, parts.split("+")))
        assert "1 delivered" in facts["changes"]

    def test_one_as_json(self, ask: Run, service: Service) -> None:
        ended = ask("export", "show", LIST, "--json")

        assert ended.out == service.http.get("/exports/1").text + "\n"

    def test_freshness_and_fields(self, ask: Run, export: dict[str, Any], mock: respx.MockRouter) -> None:
        freshness = {"p50_seconds": 0.8, "p95_seconds": 2.14}
        export |= {"freshness": freshness, "fields": {"city": "town"}, "list_ready": False}
        mock.get(path="/exports").respond(json={"items": [export], "unexported": []})
        mock.get(path="/exports/1").respond(json=export)
        ended = ask("export", "show", "1")

        assert re.search(r"told within +0\.8 s for half, 2\.1 s for 95 %", ended.out)
        assert re.search(r"fields +city as town", ended.out)
        assert f"{LIST} (not made in Sailthru yet)" in ended.out

    def test_what_does_not_run_and_what_nobody_exports_is_said(
        self, ask: Run, export: dict[str, Any], mock: respx.MockRouter
    ) -> None:
        """
        Names come from elsewhere: what could steer a terminal is not passed on, and no word is taken for markup.
        """
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

    def test_none_yet(self, ask: Run, mock: respx.MockRouter) -> None:
        mock.get(path="/exports").respond(json={"items": [], "unexported": []})

        assert "export start AUDIENCE" in ask("export", "list").out

    def test_a_name_for_what_has_one_is_refused_by_the_service(self, ask: Run) -> None:
        ended = ask("export", "name", LIST, "Other")

        assert (ended.code, ended.out) == (1, "")
        assert f"already keeps the list '{LIST}'" in ended.err


class TestStarting:
    @pytest.mark.parametrize(
        ("words", "asked"),
        [
            ((), {}),
            (("--authorization", "shop"), {"authorization": "shop"}),
            (("--field", "city"), {"fields": ["city"]}),
            (("--field", "city", "--field", "first_name"), {"fields": ["city", "first_name"]}),
            (("--field", "city=town", "--field", "age"), {"fields": {"city": "town", "age": "age"}}),
            (("--email-field", "mail"), {"email_field": "mail"}),
            (("--name", "Spring Buyers"), {"name": "Spring Buyers"}),
            (("--adopt", "7"), {"adopt": 7}),
            (("--paused",), {"state": "paused"}),
        ],
    )
    def test_only_what_is_said_is_asked_for(
        self, ask: Run, stub: Stub, words: tuple[str, ...], asked: dict[str, object]
    ) -> None:
        """
        So that a second start leaves as it is what it does not name.
        """
        ended = ask("export", "start", "spring_buyers", *words)

        assert (ended.code, ended.err) == (0, "")
        assert ended.out == f"Export 1, {LIST} is running.\nNote: {NOTES[0]}\n"
        assert stub.asked == {"audience": "spring_buyers"} | asked

    def test_a_preview(self, ask: Run, stub: Stub) -> None:
        """
        What would be done, to which list, with which fields.
        """
        stub.start.respond(200, json=PREVIEW)
        ended = ask("export", "start", "Spring Buyers", "--preview")

        assert ended.code == 0
        assert ended.out.startswith("This would start an export. Nothing was done.\n")
        assert re.search(r"fields +first_name as first_name, city as town", ended.out)
        assert f"Note: {NOTES[0]}" in ended.out
        assert stub.asked == {"audience": "Spring Buyers", "preview": True}

    @pytest.mark.parametrize("would", ["update", "revive", "adopt"])
    def test_a_preview_names_the_export_that_it_is_about(self, ask: Run, stub: Stub, would: str) -> None:
        stub.start.respond(200, json=PREVIEW | {"would": would, "export_id": 7})

        assert "export 7" in ask("export", "start", "x", "--preview").out

    @pytest.mark.parametrize("more", [(), ("--preview",)])
    def test_as_json(self, ask: Run, stub: Stub, more: tuple[str, ...]) -> None:
        stub.start.respond(200, json=PREVIEW)

        assert json.loads(ask("export", "start", "x", "--json", *more).out) == PREVIEW

    @pytest.mark.parametrize(
        "words",
        [("--field", ""), ("--field", "=town"), ("--field", "city="), ("--field", "a", "--field", "a=b")],
    )
    def test_fields_that_make_no_sense(self, ask: Run, stub: Stub, words: tuple[str, ...]) -> None:
        ended = ask("export", "start", "x", *words)

        assert (ended.code, ended.out) == (2, "")
        assert "--field" in ended.err
        assert not stub.start.called

    def test_an_audience_that_may_be_several(self, ask: Run, stub: Stub) -> None:
        """
        The service says which.
        """
        stub.start.respond(
            409,
            json={"detail": "Several have this name.", "candidates": [{"id": "a", "slug": "vip", "name": "VIP"}]},
            headers={"Content-Type": "application/problem+json"},
        )
        ended = ask("export", "start", "VIP")

        assert (ended.code, ended.out) == (1, "")
        assert ended.err == "lytics-sailthru: Several have this name.\n  a  vip  VIP\n"


class TestChanging:
    @pytest.mark.parametrize(("word", "state"), [("pause", "paused"), ("resume", "running")])
    def test_pause_and_resume(self, ask: Run, stub: Stub, word: str, state: str) -> None:
        ended = ask("export", word, LIST)
        as_json = ask("export", word, "1", "--json")

        assert (ended.code, ended.out, ended.err) == (0, f"Export 1, {LIST} is {state}.\n", "")
        assert json.loads(as_json.out)["state"] == state
        assert [json.loads(call.request.content) for call in stub.change.calls] == [{"state": state}] * 2

    def test_name(self, ask: Run, stub: Stub) -> None:
        ended = ask("export", "name", "1", "Spring Buyers")

        assert ended.code == 0
        assert json.loads(stub.change.calls.last.request.content) == {"name": "Spring Buyers"}

    def test_stop(self, ask: Run, stub: Stub) -> None:
        ended = ask("export", "stop", "Spring Buyers", "--yes")

        assert (ended.code, ended.out, ended.err) == (0, f"Export 1, {LIST} is stopped.\n", "")
        assert stub.stop.call_count == 1

    def test_stop_as_json(self, ask: Run, stub: Stub) -> None:
        assert json.loads(ask("export", "stop", "1", "--yes", "--json").out)["state"] == "stopped"

    def test_stop_where_nobody_can_be_asked(self, ask: Run, stub: Stub) -> None:
        """
        It says what would have been lost.
        """
        ended = ask("export", "stop", "1")

        assert (ended.code, ended.out) == (2, "")
        assert f"Stop export 1, {LIST}? Its events will be ignored, and 0 waiting changes cancelled" in ended.err
        assert not stub.stop.called

    def test_what_does_not_run_says_why(self, ask: Run, stub: Stub, export: dict[str, Any]) -> None:
        taken = export | {"state": "name_taken", "reason": "Export 2 keeps this list."}
        stub.change.mock(side_effect=None, return_value=httpx.Response(200, json=taken))
        ended = ask("export", "resume", "1")

        assert ended.out == f"Export 1, {LIST} is name_taken.\nExport 2 keeps this list.\n"
