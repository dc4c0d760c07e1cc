"""`export start`, `name`, `pause`, `resume` and `stop`, with a real service."""

import json
import re
from datetime import UTC, datetime

import pytest

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import Audience
from tests.commands.conftest import Run, export_of, list_of
from tests.promises.processes import Sandbox, Service, until


@pytest.fixture
def service(workshop: tuple[Service, Sandbox]) -> Service:
    return workshop[0]


@pytest.fixture
def sandbox(workshop: tuple[Service, Sandbox]) -> Sandbox:
    return workshop[1]


def is_exported(service: Service, audience: Audience) -> bool:
    items = service.http.get("/exports").raise_for_status().json()["items"]
    return any(item["audience"]["id"] == audience.id for item in items)


class TestStarting:
    def test_list_is_created_at_once(self, ask: Run, service: Service, sandbox: Sandbox, audience: Audience) -> None:
        ended = ask("export", "start", audience.name)
        export = export_of(service, audience)

        assert (ended.code, ended.err) == (0, "")
        assert ended.out == f"Export {export['id']}, {list_of(audience)} is running.\n"
        assert sandbox.members(list_of(audience)) == set()
        assert list_of(audience) in sandbox.account()["lists"]

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (("--field", "city"), {"fields": {"city": "city"}}),
            (("--field", "city", "--field", "visitct"), {"fields": {"city": "city", "visitct": "visitct"}}),
            (("--field", "city=town", "--field", "visitct"), {"fields": {"city": "town", "visitct": "visitct"}}),
            (("--email-field", "emails"), {"email_field": "emails"}),
            (("--name", "By Hand"), {"list": "Lytics By Hand"}),
            (("--paused",), {"state": "paused"}),
        ],
    )
    def test_options_decide_how_it_starts(
        self, ask: Run, service: Service, audience: Audience, words: tuple[str, ...], expected: dict[str, object]
    ) -> None:
        ended = ask("export", "start", audience.slug, *words)
        export = export_of(service, audience)

        assert (ended.code, ended.err) == (0, "")
        assert {key: export[key] for key in expected} == expected

    def test_second_start_changes_only_the_given_options(self, ask: Run, service: Service, audience: Audience) -> None:
        ask("export", "start", audience.id, "--field", "city=town", "--paused")
        again = ask("export", "start", audience.id)
        first = export_of(service, audience)
        ask("export", "start", audience.id, "--field", "visitct")
        changed = export_of(service, audience)
        name, number = list_of(audience), first["id"]

        command = f"`lytics-sailthru export resume {number}`"
        assert again.out.splitlines() == [
            f"Export {number}, {name} is paused.",
            f"The list {name} exists in Sailthru. Build the flow on it, then resume the export: {command}.",
        ]
        assert (first["fields"], first["state"]) == ({"city": "town"}, "paused")
        assert (changed["fields"], changed["state"]) == ({"visitct": "visitct"}, "paused")

    def test_notes_are_shown(self, ask: Run, audience: Audience) -> None:
        ended = ask("export", "start", audience.id, "--field", "first_name")

        assert re.search(r"\nNote: first_name has a meaning of its own in Sailthru", ended.out)

    def test_preview_changes_nothing(self, ask: Run, service: Service, sandbox: Sandbox, audience: Audience) -> None:
        """With --existing-users it shows the possible number of flows."""
        sandbox.control_lytics("members", audience=audience.id, generate=17)
        words = ("export", "start", audience.name, "--field", "first_name", "--field", "city=town", "--preview")
        ended = ask(*words)
        with_all = ask(*words, "--existing-users")
        as_json = ask(*words, "--json")

        assert ended.code == 0
        assert ended.out.startswith("This would start an export. Nothing was changed.\n")
        assert re.search(rf"\nlist +{list_of(audience)}", ended.out)
        assert re.search(r"\nfields +first_name as first_name, city as town", ended.out)
        assert "Note: first_name" in ended.out
        assert "flows" not in ended.out
        assert re.search(r"\nflows at most +17", with_all.out)
        assert json.loads(as_json.out)["would"] == "start"
        assert not is_exported(service, audience)

    def test_preview_names_the_export(self, ask: Run, service: Service, audience: Audience) -> None:
        ask("export", "start", audience.id)
        number = export_of(service, audience)["id"]
        update = ask("export", "start", audience.id, "--preview")
        ask("export", "stop", str(number), "--yes")
        revive = ask("export", "start", audience.id, "--preview")

        assert update.out.startswith(f"This would change export {number}.")
        assert revive.out.startswith(f"This would restart export {number}, which is stopped.")

    def test_as_json(self, ask: Run, service: Service, audience: Audience) -> None:
        answer = json.loads(ask("export", "start", audience.id, "--json").out)

        assert answer == {"export": export_of(service, audience), "backfill": None, "notes": []}

    def test_show_lists_fields(self, ask: Run, audience: Audience) -> None:
        ask("export", "start", audience.id, "--field", "city=town")
        ended = ask("export", "show", list_of(audience))

        assert re.search(r"\nfields +city as town", ended.out)

    def test_list_that_sailthru_cannot_create_yet(self, ask: Run, sandbox: Sandbox, audience: Audience) -> None:
        """The output names the reason, and that the service tries again."""
        sandbox.control("faults", rules=[{"fault": {"kind": "html", "status": 503}, "endpoints": ["/list"]}])
        try:
            started = ask("export", "start", audience.id)
            shown = ask("export", "show", list_of(audience))
        finally:
            sandbox.control("faults")

        assert started.code == 0
        assert "The service retries" in started.out
        assert f"{list_of(audience)} (not created in Sailthru yet)" in shown.out

    @pytest.mark.parametrize(
        "words",
        [("--field", ""), ("--field", "=town"), ("--field", "city="), ("--field", "a", "--field", "a=b")],
    )
    def test_invalid_fields_are_refused(
        self, ask: Run, service: Service, audience: Audience, words: tuple[str, ...]
    ) -> None:
        ended = ask("export", "start", audience.id, *words)

        assert (ended.code, ended.out) == (2, "")
        assert "--field" in ended.err
        assert not is_exported(service, audience)

    def test_unknown_account_is_refused(self, ask: Run, audience: Audience) -> None:
        ended = ask("export", "start", audience.id, "--authorization", "shop")

        assert (ended.code, ended.out) == (1, "")
        assert "There is no authorization 'shop'. There are: default." in ended.err

    def test_ambiguous_audience_lists_candidates(self, ask: Run, sandbox: Sandbox, audience: Audience) -> None:
        sandbox.control_lytics("audiences", id=f"{audience.id}x", name=audience.name, slug=f"{audience.slug}_1")
        ended = ask("export", "start", audience.name)

        assert (ended.code, ended.out) == (1, "")
        assert f"\n  {audience.id}  {audience.slug}  {audience.name}\n" in ended.err
        assert f"\n  {audience.id}x  {audience.slug}_1  {audience.name}\n" in ended.err

    def test_recreated_audience_is_adopted_by_option(
        self, ask: Run, service: Service, sandbox: Sandbox, audience: Audience
    ) -> None:
        """The error names the options that resolve it."""
        ask("export", "start", audience.id)
        number = export_of(service, audience)["id"]
        sandbox.control_lytics("audiences", id=audience.id, name=audience.name, deleted=True)
        sandbox.control_lytics("audiences", id=f"{audience.id}y", name=audience.name, slug=audience.slug)
        refused = ask("export", "start", f"{audience.id}y")
        preview = ask("export", "start", f"{audience.id}y", "--adopt", str(number), "--preview")
        adopted = ask("export", "start", f"{audience.id}y", "--adopt", str(number))

        assert (refused.code, refused.out) == (1, "")
        assert refused.err.endswith(f"\n  add --adopt {number}\n  add --name NAME\n")
        assert preview.out.startswith(f"This would continue export {number} with this audience.")
        assert adopted.out == f"Export {number}, {list_of(audience)} is running.\n"


class TestChanging:
    def test_pause_and_resume(self, ask: Run, service: Service, audience: Audience) -> None:
        ask("export", "start", audience.id)
        number = export_of(service, audience)["id"]
        for word, state in (("pause", "paused"), ("resume", "running")):
            ended = ask("export", word, list_of(audience))

            assert (ended.code, ended.out, ended.err) == (0, f"Export {number}, {list_of(audience)} is {state}.\n", "")
            assert export_of(service, audience)["state"] == state
        assert json.loads(ask("export", "pause", str(number), "--json").out)["state"] == "paused"

    def test_export_with_a_list_cannot_be_named(self, ask: Run, service: Service, audience: Audience) -> None:
        ask("export", "start", audience.id)
        ended = ask("export", "name", list_of(audience), "Other")

        assert (ended.code, ended.out) == (1, "")
        assert f"already keeps the list '{list_of(audience)}'" in ended.err

    def test_stop(self, ask: Run, service: Service, audience: Audience) -> None:
        """Without a terminal and --yes the command names the effect and changes nothing."""
        ask("export", "start", audience.id, "--paused")
        title = f"export {export_of(service, audience)['id']}, {list_of(audience)}"
        service.send(webhooks.enter("ada@example.com", audience, at=datetime.now(UTC))).raise_for_status()
        refused = ask("export", "stop", audience.name)
        before = export_of(service, audience)["state"]
        ended = ask("export", "stop", audience.name, "--yes")
        until(lambda: export_of(service, audience), lambda export: export["counts"]["cancelled"] == 1)
        resumed = ask("export", "resume", audience.name)

        assert (refused.code, refused.out, before) == (2, "", "paused")
        assert f"Stop {title}? Its events will be ignored, and its pending changes (1) cancelled." in refused.err
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"{title[0].upper()}{title[1:]} is stopped.\nIt was stopped. ")
        assert "`lytics-sailthru export start AUDIENCE`" in ended.out
        assert resumed.code == 1
        assert "`lytics-sailthru export start AUDIENCE`" in resumed.err

    def test_stop_as_json(self, ask: Run, audience: Audience) -> None:
        ask("export", "start", audience.id)

        assert json.loads(ask("export", "stop", audience.name, "--yes", "--json").out)["state"] == "stopped"
