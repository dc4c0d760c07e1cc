"""`/list`: cases that the scripts of exchanges do not cover."""

import asyncio
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox, lists
from tests.sandbox.caller import ADA, GRACE, KEY, account_state, call, join


async def test_index_of_primary_lists(http: httpx.AsyncClient) -> None:
    await call(http, "POST", "/list", {"list": "Spring"})
    await call(http, "POST", "/list", {"list": "Main", "primary": 1})
    index = (await call(http, "GET", "/list", {"primary": 1})).json()["lists"]

    assert [entry["name"] for entry in index] == ["Main"]


async def test_list_keeps_its_vars(http: httpx.AsyncClient) -> None:
    """A change adds vars. An answer holds them only on request."""
    await call(http, "POST", "/list", {"list": "Spring", "type": "smart", "vars": {"a": 1}})
    created = await call(http, "POST", "/list", {"list": "Spring", "type": "smart", "vars": {"b": 2}})
    found = await call(http, "GET", "/list", {"list": "Spring", "fields": {"vars": 1}})

    assert "smart" == created.json()["type"] == found.json()["type"]
    assert found.json()["vars"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("method", "payload"),
    [
        ("POST", {}),
        ("POST", {"list": ""}),
        ("DELETE", {}),
    ],
)
async def test_list_needs_a_name(http: httpx.AsyncClient, method: str, payload: Any) -> None:
    answer = await call(http, method, "/list", payload)

    assert (answer.status_code, answer.json()) == (400, {"error": 2, "errormsg": "Missing required parameter: list"})


async def test_unknown_type_is_refused(http: httpx.AsyncClient) -> None:
    answer = await call(http, "POST", "/list", {"list": "Spring", "type": "dumb"})

    assert (answer.status_code, answer.json()["error"]) == (400, 99)


async def test_number_of_lists_is_limited(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing lists can still be changed and joined."""
    monkeypatch.setattr(lists, "MOST_LISTS", 2)
    made = [await join(http, ADA, "Spring"), await call(http, "POST", "/list", {"list": "Summer"})]
    too_many = [await join(http, ADA, "Autumn"), await call(http, "POST", "/list", {"list": "Autumn"})]
    changed = [await join(http, ADA, "Summer"), await call(http, "POST", "/list", {"list": "Spring", "primary": 1})]

    assert [answer.status_code for answer in made + changed] == [200] * 4
    assert [answer.json()["error"] for answer in too_many] == [99] * 2


@pytest.mark.parametrize("has_race", [True, False])
async def test_race_creates_a_list_twice(sandbox: SailthruSandbox, http: httpx.AsyncClient, has_race: bool) -> None:
    """This needs the switch and concurrent calls. A leave works for both lists."""
    sandbox.switches.duplicate_list_race = has_race
    sandbox.set_latency(0.01, 0)
    await asyncio.gather(
        join(http, ADA, "Spring"), join(http, GRACE, "Spring"), call(http, "POST", "/list", {"list": "Spring"})
    )
    await join(http, "late@example.com", "Spring")
    index = (await call(http, "GET", "/list", {})).json()["lists"]

    assert (3 if has_race else 1) == len(index) == account_state(sandbox)["lists_by_name"]["Spring"]
    assert {ADA, GRACE, "late@example.com"} == sandbox.members("Spring")

    await call(http, "POST", "/user", {"id": GRACE, "lists": {"Spring": 0}})

    assert {ADA, "late@example.com"} == sandbox.account(KEY).members("Spring")
