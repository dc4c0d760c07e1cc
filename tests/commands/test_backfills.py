"""`export backfill` and `export start --existing-users`, with a real service."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from unittest.mock import ANY

import httpx
import pytest
import respx

from app.commands import backfills
from app.sandbox.lytics.audiences import Audience
from tests.command_line import Ended
from tests.commands.conftest import Run, export_of, list_of
from tests.promises.processes import ADMIN_TOKEN, Sandbox, Service, until
from tests.test_terminal import on_a_terminal

SCAN = "/api/segment/{id}/scan"
ROWS = ["already there", "changed since", "no address", "invalid", "erased", "unreadable"]
URL = "https://lists.example.com"
EXPORT: dict[str, object] = {
    "id": 1,
    "list": "Lytics Spring Buyers",
    "audience": {"id": "a", "slug": "s", "name": "Spring Buyers"},
    "counts": {"pending": 0},
}
BACKFILL: dict[str, object] = {
    "id": 2,
    "export_id": 1,
    "state": "running",
    "mode": "loud",
    "dry_run": False,
    "scanned": 0,
    "total": None,
    "queued": 0,
    "skipped": {},
    "joins_at_most": None,
    "rate": None,
    "eta_seconds": None,
    "waiting_for": None,
    "reason": None,
}
UNDER_WAY = httpx.Response(200, json=BACKFILL)
Put = Callable[..., None]


@pytest.fixture
def service(workshop: tuple[Service, Sandbox]) -> Service:
    return workshop[0]


@pytest.fixture
def sandbox(workshop: tuple[Service, Sandbox]) -> Iterator[Sandbox]:
    """Return the sandbox, and remove its faults at the end."""
    yield workshop[1]
    workshop[1].control_lytics("faults")


@pytest.fixture
def put(sandbox: Sandbox, audience: Audience) -> Put:
    """Add people to the audience."""
    return lambda **people: sandbox.control_lytics("members", audience=audience.id, **people)


@pytest.fixture
def slowly(sandbox: Sandbox, audience: Audience) -> None:
    """Make Lytics take half a second for each page of the audience."""
    fault = {"kind": "slow", "seconds": 0.5}
    sandbox.control_lytics("faults", rules=[{"fault": fault, "endpoints": [SCAN], "ids": [audience.id]}])


def table_of(ended: Ended) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^ ([a-z ]+?)  +(\d+) *$", ended.out, re.MULTILINE)}


def newest(service: Service, export_id: int) -> dict[str, object]:
    items = service.http.get(f"/exports/{export_id}/backfills").raise_for_status().json()["items"]
    return dict(items[0])


class TestStartingWithExistingUsers:
    def test_backfill_runs_to_its_end_and_results_are_counted(
        self, ask: Run, service: Service, sandbox: Sandbox, audience: Audience, put: Put
    ) -> None:
        """The number of flows is shown once it is known, the number of pending changes at the end."""
        put(generate=120, add=[{"_id": "1"}, {"_id": "2", "email": "no address"}])
        ended = ask("export", "start", audience.name, "--existing-users")
        number = export_of(service, audience)["id"]

        assert ended.code == 0
        # 122 if the progress is read before the last page.
        assert re.fullmatch(r"This may start up to 12[02] flows\.\n", ended.err)
        assert ended.out.startswith(f"Export {number}, {list_of(audience)} is running.\n")
        assert f"of export {number}, {list_of(audience)} is completed. Read: 122.\n" in ended.out
        assert table_of(ended) == {"queued": 120} | dict.fromkeys(ROWS, 0) | {"no address": 1, "invalid": 1}
        assert re.search(r"\n(Pending changes: \d+\.|No changes are pending\.)", ended.out)
        until(lambda: len(sandbox.members(list_of(audience))), lambda count: count == 120)

    def test_as_json(self, ask: Run, service: Service, audience: Audience, put: Put) -> None:
        """The output is the answer to the start. The command ends when the backfill has ended."""
        put(generate=3)
        ended = ask("export", "start", audience.name, "--existing-users", "--json")
        answer = json.loads(ended.out)

        assert (ended.code, ended.err) == (0, "")
        assert answer["export"]["audience"]["id"] == audience.id
        assert answer["backfill"]["state"] == "queued"
        assert newest(service, answer["export"]["id"]) == answer["backfill"] | {
            "state": "completed",
            "scanned": 3,
            "total": 3,
            "queued": 3,
            "joins_at_most": 3,
            "ended_at": ANY,
        }

    def test_no_wait_names_the_commands_to_continue(
        self, ask: Run, service: Service, audience: Audience, put: Put
    ) -> None:
        put(generate=3)
        ended = ask("export", "start", audience.name, "--existing-users", "--paused", "--no-wait")
        number = export_of(service, audience)["id"]

        assert (ended.code, ended.err) == (0, "")
        assert ended.out.endswith(
            f" is queued. To follow it: `lytics-sailthru export backfill {number}`."
            f" To cancel it: `lytics-sailthru export backfill {number} --cancel`.\n"
        )


class TestBackfill:
    def test_dry_run_counts_without_confirmation(
        self, ask: Run, service: Service, sandbox: Sandbox, audience: Audience, put: Put
    ) -> None:
        put(generate=130)
        ask("export", "start", audience.name)
        ended = ask("export", "backfill", audience.name, "--dry-run")
        number = export_of(service, audience)["id"]

        assert (ended.code, ended.err) == (0, "")
        assert re.match(rf"Dry run \d+ of export {number}, {list_of(audience)} is completed\. Read: 130\.\n", ended.out)
        assert table_of(ended) == {"would be queued": 130} | dict.fromkeys(ROWS, 0)
        assert "pending" not in ended.out
        assert sandbox.members(list_of(audience)) == set()

    def test_json_is_the_backfill_at_its_end(self, ask: Run, service: Service, audience: Audience, put: Put) -> None:
        put(generate=5)
        ask("export", "start", audience.name)
        ended = ask("export", "backfill", audience.name, "--yes", "--json")

        assert (ended.code, ended.err) == (0, "")
        assert json.loads(ended.out) == newest(service, export_of(service, audience)["id"])
        assert json.loads(ended.out)["state"] == "completed"

    def test_without_a_terminal_and_yes_nothing_is_changed(
        self, ask: Run, service: Service, audience: Audience, put: Put
    ) -> None:
        """The error names the number of flows and the option that confirms."""
        put(generate=1234)
        ask("export", "start", audience.name)
        ended = ask("export", "backfill", audience.name)
        number = export_of(service, audience)["id"]

        assert (ended.code, ended.out) == (2, "")
        question = f"Backfill export {number}, {list_of(audience)} from its audience? This may start up to 1,234 flows"
        assert question in ended.err
        assert "Add --yes" in ended.err
        assert service.http.get(f"/exports/{number}/backfills").json()["items"] == []

    def test_question_about_an_audience_of_unknown_size(self, ask: Run, sandbox: Sandbox, audience: Audience) -> None:
        ask("export", "start", audience.name)
        sandbox.control_lytics("audiences", id=audience.id, name=audience.name, deleted=True)
        ended = ask("export", "backfill", list_of(audience))

        assert ended.code == 2
        assert "This may start an unknown number of flows" in ended.err

    @pytest.mark.usefixtures("slowly")
    def test_running_backfill_is_followed_without_confirmation(
        self, ask: Run, service: Service, audience: Audience, put: Put
    ) -> None:
        put(generate=450)
        ask("export", "start", audience.name)
        begun = json.loads(ask("export", "backfill", audience.name, "--yes", "--no-wait", "--json").out)
        ended = ask("export", "backfill", audience.name)
        items = service.http.get(f"/exports/{begun['export_id']}/backfills").json()["items"]

        assert ended.code == 0
        assert table_of(ended)["queued"] == 450
        assert [item["id"] for item in items] == [begun["id"]]

    @pytest.mark.usefixtures("slowly")
    def test_backfill_is_refused_while_a_dry_run_is_running(
        self, ask: Run, service: Service, audience: Audience, put: Put
    ) -> None:
        """The command still asks for confirmation, because the dry run may end before the call."""
        put(generate=2000)
        ask("export", "start", audience.name)
        ask("export", "backfill", audience.name, "--dry-run", "--no-wait")
        unconfirmed = ask("export", "backfill", audience.name)
        refused = ask("export", "backfill", audience.name, "--yes")
        number = export_of(service, audience)["id"]

        assert (unconfirmed.code, refused.code) == (2, 1)
        assert f"Export {number} has a dry run under way" in refused.err
        assert f"lytics-sailthru export backfill {number} --cancel" in refused.err
        assert "DELETE" not in refused.err
        assert len(service.http.get(f"/exports/{number}/backfills").json()["items"]) == 1

    def test_failed_backfill_shows_the_reason(self, ask: Run, sandbox: Sandbox, audience: Audience) -> None:
        ask("export", "start", audience.name)
        sandbox.control_lytics("audiences", id=audience.id, name=audience.name, deleted=True)
        ended = ask("export", "backfill", list_of(audience), "--yes")
        as_json = ask("export", "backfill", list_of(audience), "--yes", "--json")

        assert (ended.code, as_json.code) == (1, 1)
        assert " is failed. Read: 0.\nLytics knows no such audience" in ended.out
        assert json.loads(as_json.out)["state"] == "failed"

    def test_waiting_backfill_is_cancelled_once(self, ask: Run, service: Service, audience: Audience, put: Put) -> None:
        put(generate=5)
        ask("export", "start", audience.name, "--paused", "--existing-users", "--no-wait")
        number = export_of(service, audience)["id"]
        until(lambda: newest(service, number), lambda backfill: backfill["state"] == "waiting")
        cancelled = ask("export", "backfill", audience.name, "--cancel")
        again = ask("export", "backfill", audience.name, "--cancel")

        assert (cancelled.code, cancelled.err) == (0, "")
        assert " is cancelled. Read: 0.\nIt was cancelled by an operator.\n" in cancelled.out
        assert (again.code, again.out) == (1, "")
        assert f"No backfill of export {number}, {list_of(audience)} is running." in again.err

    @pytest.mark.parametrize("words", [("--dry-run",), ("--no-wait",)])
    def test_cancel_excludes_other_options(self, ask: Run, words: tuple[str, ...]) -> None:
        ended = ask("export", "backfill", "1", "--cancel", *words)

        assert (ended.code, ended.out) == (2, "")
        assert "can't be combined with --dry-run or --no-wait" in ended.err


class TestOnATerminal:
    def run(self, service: Service, *words: str) -> str:
        """Return Python code that runs a command. It restores Ctrl-C, which a background job ignores."""
        return (
            "import os, signal\nfrom app.__main__ import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"os.environ |= {{'SERVICE_URL': 'http://127.0.0.1:{service.port}', 'ADMIN_TOKENS': {ADMIN_TOKEN!r}}}\n"
            f"main({words!r})\n"
        )

    @pytest.mark.usefixtures("slowly")
    def test_question_and_progress(
        self, ask: Run, service: Service, audience: Audience, put: Put, tmp_path: Path
    ) -> None:
        put(generate=450)
        ask("export", "start", audience.name)
        with on_a_terminal(tmp_path, self.run(service, "export", "backfill", audience.name)) as terminal:
            terminal.wait_for("up to 450 flows: one for each person who is not on the list yet. Continue? [y/N]")
            terminal.type("y\n")
            terminal.wait_for("This may start up to 450 flows.")
            terminal.wait_for(" of 450, ")
            terminal.wait_for("450 of 450, 450 queued")
            code, out = terminal.end()

        assert code == 0
        assert re.search(r"\d+/s, 0:00:\d\d left, \d+ queued", terminal.seen)
        assert "is completed. Read: 450." in out

    def test_ctrl_c_leaves_the_backfill_running(
        self, ask: Run, service: Service, audience: Audience, put: Put, tmp_path: Path
    ) -> None:
        """The output names the reason of the wait and the commands to continue."""
        put(generate=5)
        ask("export", "start", audience.name, "--paused")
        number = export_of(service, audience)["id"]
        with on_a_terminal(tmp_path, self.run(service, "export", "backfill", str(number), "--yes")) as terminal:
            terminal.wait_for("Waiting: The export is in state paused")
            terminal.program.send_signal(signal.SIGINT)
            ended = terminal.end()
            terminal.wait_for("The backfill continues in the service.")

        assert ended == (130, "")
        follow = f"`lytics-sailthru export backfill {number}`"
        assert f"To follow it: {follow}. To cancel it: {follow[:-1]} --cancel`." in terminal.seen
        assert newest(service, number)["state"] == "waiting"


class TestFollowing:
    @pytest.fixture
    def mock(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[respx.MockRouter]:
        """Mock a service with a running backfill."""
        monkeypatch.setattr(backfills, "POLL_SECONDS", 0.01)
        with respx.mock(base_url=URL) as router:
            router.get("/exports").respond(json={"items": [EXPORT], "unexported": []})
            router.get("/exports/1/backfills").respond(json={"items": [BACKFILL]})
            yield router

    def follow(self, run: Run) -> Ended:
        return run("export", "backfill", "1", SERVICE_URL=URL, ADMIN_TOKENS=ADMIN_TOKEN)

    def test_command_waits_through_a_short_outage_of_the_service(self, run: Run, mock: respx.MockRouter) -> None:
        gateway = httpx.Response(502, html="<h1>Bad Gateway</h1>")
        done = httpx.Response(200, json=BACKFILL | {"state": "completed", "scanned": 7})
        mock.get("/exports/1/backfills/2").mock(
            side_effect=[UNDER_WAY, httpx.ConnectError("x"), httpx.ReadError("x"), gateway, done]
        )
        mock.get("/exports/1").respond(json=EXPORT)
        ended = self.follow(run)

        assert ended.code == 0
        assert "is completed. Read: 7." in ended.out

    def test_long_outage_of_the_service_ends_the_command(
        self, run: Run, mock: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backfills, "LONGEST_OUTAGE_SECONDS", 0.05)
        mock.get("/exports/1/backfills/2").mock(side_effect=chain([UNDER_WAY], repeat(httpx.ConnectError("x"))))
        ended = self.follow(run)

        assert (ended.code, ended.out) == (3, "")
        assert (
            "The backfill continues while the service runs. To follow it: `lytics-sailthru export backfill 1`."
            in ended.err
        )
        assert "lists.example.com can't be reached" in ended.err

    def test_refusal_ends_the_command_at_once(self, run: Run, mock: respx.MockRouter) -> None:
        problem = httpx.Response(
            401, json={"detail": "This needs a token."}, headers={"Content-Type": "application/problem+json"}
        )
        mock.get("/exports/1/backfills/2").mock(side_effect=[UNDER_WAY, problem])
        ended = self.follow(run)

        assert (ended.code, ended.out) == (1, "")
        assert "To follow it" in ended.err
        assert "This needs a token." in ended.err

    def test_backfill_cancelled_elsewhere_exits_with_1(self, run: Run, mock: respx.MockRouter) -> None:
        """A result of a newer service is shown by its own name."""
        ended = BACKFILL | {"state": "cancelled", "reason": "Cancelled.", "skipped": {"too_old": 3, "erased": 1}}
        mock.get("/exports/1/backfills/2").mock(side_effect=[UNDER_WAY, UNDER_WAY, httpx.Response(200, json=ended)])
        mock.get("/exports/1").respond(json=EXPORT)
        done = self.follow(run)

        assert (done.code, done.err) == (1, "")
        assert table_of(done) == {"queued": 0} | dict.fromkeys(ROWS, 0) | {"erased": 1, "too old": 3}
        assert done.out.endswith("No changes are pending.\n")
