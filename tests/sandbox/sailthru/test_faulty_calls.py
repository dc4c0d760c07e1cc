"""The calls that meet faults, and the faults in the state."""

from typing import Any

import httpx
import pytest

from app.sandbox.faults import Error, Html
from app.sandbox.rules import FaultMix, Rule
from app.sandbox.sailthru import Access, SailthruSandbox
from tests.sandbox.caller import ADA, GRACE, KEY, SECRET, account_state, behind, call, join, leave


async def test_rules_match_by_method_endpoint_person_list_and_key(http: httpx.AsyncClient) -> None:
    """A rule for a person matches calls by any key."""
    await call(http, "POST", "/user", {"id": ADA})
    sid = (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
    fault = {"kind": "error"}

    async def struck(rule: dict[str, object]) -> list[str]:
        await http.post("/_sandbox/faults", json={"rules": [{"fault": fault, **rule}]})
        answers = {
            "join": await join(http, ADA.upper(), "Spring"),
            "leave": await call(http, "POST", "/user", {"id": sid, "key": "sid", "lists": {"Summer": 0}}),
            "read": await call(http, "GET", "/user", {"id": GRACE}),
            "list": await call(http, "POST", "/list", {"list": "Spring"}),
            "index": await call(http, "GET", "/list", {}),
        }
        return [name for name, answer in answers.items() if answer.status_code == 500]

    assert await struck({}) == ["join", "leave", "read", "list", "index"]
    assert await struck({"methods": ["GET"]}) == ["read", "index"]
    assert await struck({"endpoints": ["/list"]}) == ["list", "index"]
    assert await struck({"ids": [ADA.title()]}) == ["join", "leave"]
    assert await struck({"ids": [GRACE]}) == ["read"]
    assert await struck({"lists": ["Spring"]}) == ["join", "list"]
    assert await struck({"lists": ["Summer"], "ids": [ADA]}) == ["leave"]
    assert await struck({"api_keys": [KEY]}) == ["join", "leave", "read", "list", "index"]
    assert await struck({"api_keys": ["another"]}) == []
    assert await struck({"times": 2, "after": 1}) == ["leave", "read"]


async def test_one_key_of_an_account_is_revoked_and_restored() -> None:
    sandbox = SailthruSandbox({KEY: SECRET, "spare": Access("spare-secret", KEY)})
    sandbox.faults.set([Rule(Error(status=401, code=3, text="Invalid API key"), api_keys=frozenset({KEY}))])
    async with behind(sandbox) as http:
        refused = await join(http, ADA, "Spring")
        by_spare = await call(http, "GET", "/list", {}, key="spare", secret="spare-secret")
        sandbox.faults.set([])
        healed = await join(http, ADA, "Spring")

    assert (refused.status_code, refused.json()) == (401, {"error": 3, "errormsg": "Invalid API key"})
    assert (by_spare.status_code, healed.status_code) == (200, 200)


async def test_refused_call_does_not_use_up_a_fault() -> None:
    """Faults come after the checks of signature and limit."""
    sandbox = SailthruSandbox({KEY: SECRET}, limits={("GET", "/list"): 1})
    sandbox.faults.set([Rule(Error(), times=2)])
    async with behind(sandbox) as http:
        answers = [
            await call(http, "GET", "/list", {}, secret="wrong"),
            await call(http, "GET", "/list", {}),
            await call(http, "GET", "/list", {}),
            await join(http, ADA, "Spring"),
            await join(http, ADA, "Spring"),
        ]

    assert [answer.status_code for answer in answers] == [401, 500, 429, 500, 200]
    assert account_state(sandbox)["over_limit"] == {"GET /list": 1}
    assert account_state(sandbox)["most_in_a_minute"] == {"GET /list": 2, "POST /user": 2}


async def test_joins_of_members_are_counted(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """The count is per list. It includes joins whose client got no answer."""
    sandbox.faults.set([Rule(Html(applied=True), times=1)])
    await join(http, ADA, "Spring", "Summer")
    await join(http, ADA, "Spring")
    await join(http, GRACE, "Spring")
    await leave(http, ADA, "Summer")
    await join(http, ADA, "Summer")

    assert account_state(sandbox)["rejoins"] == {"Spring": 1}


async def test_control_route_shows_rules_and_counts(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """An empty object removes the rules, as a reset does."""
    body = {"rules": [{"fault": {"kind": "html", "status": 503}, "ids": [ADA.upper()], "times": 1}], "seed": 7}
    expected = (await http.post("/_sandbox/faults", json=body)).json()
    await join(http, ADA, "Spring")
    shown = (await http.get("/_sandbox/faults")).json()
    rule = shown["rules"][0]

    assert expected["rules"][0]["met"] == 0
    assert (shown["seed"], rule["met"], rule["ids"], rule["times"]) == (7, 1, [ADA], 1)
    assert rule["fault"]["status"] == 503

    assert (await http.post("/_sandbox/faults", json={})).json() == {"seed": 0, "rules": []}
    sandbox.faults.set(FaultMix(chance=1).rules())
    sandbox.reset()
    assert sandbox.faults.rules == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "The body is not a JSON object."),
        ({"rules": [{"fault": {"kind": "flood"}}]}, "rules.0.fault"),
        (
            {"rules": [{"fault": {"kind": "hang"}, "methods": ["PATCH"]}]},
            "No such method: PATCH. There are DELETE, GET",
        ),
        ({"rules": [{"fault": {"kind": "hang"}, "endpoints": ["user"]}]}, "No such endpoint: user. There are /list"),
    ],
)
async def test_invalid_fault_settings_change_nothing(http: httpx.AsyncClient, body: Any, expected: str) -> None:
    """The error names the problem."""
    await http.post("/_sandbox/faults", json={"rules": [{"fault": {"kind": "empty"}}]})
    answer = await http.post("/_sandbox/faults", json=body)

    assert answer.status_code == 400
    assert expected in answer.json()["error"]
    assert (await join(http, ADA, "Spring")).text == ""
