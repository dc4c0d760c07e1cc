"""Control routes of the Sailthru sandbox: state, hold, latency, switches, reset."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox, call_log
from app.sandbox.sailthru.accounts import Switches
from app.sandbox.sailthru.answers import Answer
from app.sandbox.sailthru.calls import Call
from app.sandbox.sailthru.executor import Executor, Hold
from tests.sandbox.caller import (
    ADA,
    GRACE,
    KEY,
    NOON,
    SECRET,
    account_state,
    behind,
    call,
    join,
    leave,
    until,
    until_held,
)


async def test_state_has_lists_flows_people_and_calls(http: httpx.AsyncClient) -> None:
    await join(http, GRACE, "Spring", "Summer")
    await join(http, ADA, "Spring")
    await leave(http, GRACE, "Summer")
    await call(http, "GET", "/list", {"list": "Autumn"})
    state = (await http.get("/_sandbox/state")).json()

    account = state["accounts"][KEY]
    log = account.pop("calls_log")
    assert [entry["status"] for entry in log] == [200, 200, 200, 404]
    assert log[-1] == {
        "time": NOON.isoformat(),
        "method": "GET",
        "endpoint": "/list",
        "json": {"list": "Autumn"},
        "fault": None,
        "status": 404,
    }
    assert account == {
        "lists": {"Spring": [ADA, GRACE], "Summer": []},
        "lists_by_name": {"Spring": 1, "Summer": 1},
        "profiles": {"count": 2, "addresses": [ADA, GRACE]},
        "rejoins": {},
        "lo_events": [
            {"time": NOON.isoformat(), "entry": entry, "list": name, "email": email}
            for entry, name, email in [
                ("List Joined", "Spring", GRACE),
                ("List Joined", "Summer", GRACE),
                ("List Joined", "Spring", ADA),
                ("List Removed", "Summer", GRACE),
            ]
        ],
        "calls": {"POST /user": 3, "GET /list": 1},
        "answers": {"POST /user": {"200": 3}, "GET /list": {"404": 1}},
        "faults": {},
        "most_in_a_minute": {"POST /user": 3, "GET /list": 1},
        "over_limit": {},
        "most_at_once_per_person": 1,
    }
    assert (state["held"], state["held_abandoned"], state["refused_strangers"]) == (0, 0, 0)


async def test_state_without_the_log(http: httpx.AsyncClient) -> None:
    state = (await http.get("/_sandbox/state?log=false")).json()

    assert "calls_log" not in state["accounts"][KEY]


def test_log_drops_the_oldest_calls() -> None:
    """The counts still include them."""
    seen = call_log.CallLog()
    for _ in range(call_log.LONGEST_LOG + 1):
        seen.answered(seen.arrived("GET", "/user", NOON), 200)

    assert len(seen.as_json()) == call_log.LONGEST_LOG
    assert seen.calls["GET /user"] == seen.answers["GET /user"][200] == call_log.LONGEST_LOG + 1


async def test_reset_forgets_everything(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A reset removes people, lists, flows, counts and rate windows."""
    before = sandbox.state()
    await join(http, ADA, "Spring")
    await http.get("/user")
    await http.post("/_sandbox/reset")

    assert sandbox.state() == before
    assert (await join(http, ADA, "Spring")).headers["X-Rate-Limit-Remaining"] == "17999"


async def test_switches_are_set_by_name(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    answer = await http.post("/_sandbox/switches", json={"rejoin_fires": True, "stale_read_seconds": 30})

    assert answer.json() == {"rejoin_fires": True, "duplicate_list_race": False, "stale_read_seconds": 30}
    assert sandbox.switches.rejoin_fires

    await http.post("/_sandbox/switches", json={"stale_read_seconds": 0})

    assert sandbox.switches == Switches(rejoin_fires=True)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("hold", {"after": "dinner"}),
        ("hold", {"then": "cry"}),
        ("hold", {"methods": ["PATCH"]}),
        ("hold", {"endpoints": "/user"}),
        ("latency", {"mean": -1}),
        ("latency", {"mean": "long"}),
        ("switches", {"no_such": True}),
        ("switches", {"rejoin_fires": 1}),
        ("switches", {"stale_read_seconds": True}),
        ("switches", {"stale_read_seconds": -1}),
        ("switches", {"rejoin_fires": True, "stale_read_seconds": "long"}),
        ("latency", [1]),
    ],
)
async def test_invalid_control_request_is_refused_without_effect(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, route: str, body: Any
) -> None:
    answer = await http.post(f"/_sandbox/{route}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sandbox.switches == Switches()


async def test_control_request_that_is_not_json_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/_sandbox/hold", content=b"{")

    assert (answer.status_code, answer.json()) == (400, {"error": "The body is not JSON."})


@pytest.mark.parametrize(("after", "is_applied"), [("apply", True), ("before", False)])
async def test_held_calls_wait_for_the_release(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, after: str, is_applied: bool
) -> None:
    """A call is held before or after it is applied."""
    await http.post("/_sandbox/hold", json={"after": after})
    waiting = asyncio.create_task(join(http, ADA, "Spring"))
    await until(lambda: sandbox.executor.held == 1)

    assert (ADA in sandbox.members("Spring")) is is_applied
    assert account_state(sandbox)["calls_log"][-1]["status"] is None
    assert not waiting.done()

    assert (await http.post("/_sandbox/release")).json() == {"ok": True, "released": 1}
    assert (await waiting).status_code == 200
    assert {ADA} == sandbox.members("Spring")
    assert (await join(http, GRACE, "Spring")).status_code == 200
    assert sandbox.state()["held"] == 0


async def test_only_covered_calls_are_held(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """The method and the endpoint decide. A refused call is never held."""
    await http.post("/_sandbox/hold", json={"methods": ["POST"], "endpoints": ["/user"]})

    assert (await call(http, "POST", "/list", {"list": "Spring"})).status_code == 200
    assert (await call(http, "GET", "/user", {"id": ADA})).status_code == 400
    assert (await call(http, "POST", "/user", {"id": ADA}, secret="wrong")).status_code == 401

    waiting = asyncio.create_task(join(http, ADA, "Spring"))
    await until(lambda: sandbox.executor.held == 1)
    sandbox.release()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    ("after", "then", "is_applied"),
    [("before", "apply", True), ("before", "drop", False), ("apply", "drop", True), ("apply", "apply", True)],
)
async def test_abandoned_held_call_is_applied_late_or_dropped(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, after: str, then: str, is_applied: bool
) -> None:
    """A call that is already applied stays applied."""
    await http.post("/_sandbox/hold", json={"after": after, "then": then})
    gone = asyncio.create_task(join(http, ADA, "Spring"))
    stays = asyncio.create_task(join(http, GRACE, "Spring"))
    await until(lambda: sandbox.executor.held == 2)
    gone.cancel()
    await until(lambda: sandbox.executor.held_abandoned == 1)

    assert sandbox.executor.held == 2

    await http.post("/_sandbox/release")
    assert (await stays).status_code == 200
    await until(lambda: sandbox.executor.held == 0)
    await until(lambda: (ADA in sandbox.members("Spring")) is is_applied)
    assert GRACE in sandbox.members("Spring")


async def test_reset_ends_held_calls_in_the_former_state(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """The held calls are answered, and the new state does not contain them."""
    sandbox.hold(Hold(after="before"))
    waiting = asyncio.create_task(join(http, ADA, "Spring"))
    await until(lambda: sandbox.executor.held == 1)
    await http.post("/_sandbox/reset")

    assert (await waiting).status_code == 200
    assert sandbox.members("Spring") == set()


async def test_most_at_once_per_person(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """Calls that name a person in another case or by sid count for the same person."""
    await call(http, "POST", "/user", {"id": ADA})
    sid = (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
    sandbox.hold(Hold())
    crowd = [asyncio.create_task(join(http, f"{n}@example.com", "Spring")) for n in range(5)]
    await until(lambda: sandbox.executor.held == 5)

    assert account_state(sandbox)["most_at_once_per_person"] == 1

    payloads = [{"id": ADA}, {"id": ADA.upper(), "key": "email"}, {"id": sid, "key": "sid"}]
    crowd += [asyncio.create_task(call(http, "GET", "/user", payload)) for payload in payloads]
    await until(lambda: sandbox.executor.held == 8)
    sandbox.release()
    await asyncio.gather(*crowd)
    await join(http, ADA, "Spring")

    assert account_state(sandbox)["most_at_once_per_person"] == 3


async def test_abandoned_call_is_not_in_flight(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A client that disconnects and calls again has one call in flight. Calls without a person do not count."""
    sandbox.hold(Hold(after="before"))
    for n in range(3):
        given_up = asyncio.create_task(join(http, ADA, "Spring"))
        await until_held(sandbox, n + 1, abandoned=n)
        given_up.cancel()
        await until_held(sandbox, n + 1, abandoned=n + 1)
    without_person = [asyncio.create_task(call(http, "POST", "/user", {"id": [], "key": 1})) for _ in range(2)]
    await until_held(sandbox, 5, abandoned=3)
    sandbox.release()
    await asyncio.gather(*without_person)

    assert account_state(sandbox)["most_at_once_per_person"] == 1


async def test_latency_is_spent_half_before_and_half_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latency varies within the spread."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    sandbox = SailthruSandbox({KEY: SECRET}, latency=(0.15, 0.05), dice=random.Random(1))
    expected = random.Random(1).uniform(0.1, 0.2) / 2
    monkeypatch.setattr("app.sandbox.sailthru.executor.asyncio.sleep", wait)
    async with behind(sandbox) as http:
        await join(http, ADA, "Spring")
        await http.post("/_sandbox/latency", json={"mean": 2, "spread": 0})
        await join(http, ADA, "Spring")
        await http.post("/_sandbox/latency")
        await join(http, ADA, "Spring")

    assert waits == pytest.approx([expected, expected, 1.0, 1.0])


async def test_executor_decides_about_every_call(sandbox: SailthruSandbox) -> None:
    """An executor can read each call and answer in its place."""

    class FailingForAda(Executor):
        async def execute(self, call: Call, apply: Callable[[], Answer]) -> Answer | None:
            if call.payload["id"] == ADA:
                return Answer(500, {"error": 9, "errormsg": "Internal Error"})
            return await super().execute(call, apply)

    sandbox.executor = FailingForAda()
    async with behind(sandbox) as http:
        answers = [await join(http, person, "Spring") for person in (ADA, GRACE)]

    assert [answer.status_code for answer in answers] == [500, 200]
    assert sandbox.members("Spring") == {GRACE}
    assert account_state(sandbox)["answers"] == {"POST /user": {"500": 1, "200": 1}}
