"""`/user`: cases that the scripts of exchanges do not cover."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox
from tests.sandbox.caller import ADA, GRACE, KEY, Clock, account_state, call, join, leave

HOUR = timedelta(hours=1)


def entries(sandbox: SailthruSandbox) -> list[tuple[str, str, str | None]]:
    return [(event.entry, event.list, event.email) for event in sandbox.account(KEY).lo_events]


async def test_flows_start_on_transitions_only(sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock) -> None:
    await join(http, ADA, "Spring", "Summer")
    await join(http, ADA, "Spring")
    await leave(http, ADA, "Spring", "Nowhere")
    await leave(http, ADA, "Spring")
    clock.advance(HOUR)
    await join(http, ADA, "Spring")

    assert entries(sandbox) == [
        ("List Joined", "Spring", ADA),
        ("List Joined", "Summer", ADA),
        ("List Removed", "Spring", ADA),
        ("List Joined", "Spring", ADA),
    ]
    assert account_state(sandbox)["lo_events"][-1]["time"] == "2026-04-11T13:00:00+00:00"
    assert {"Spring", "Summer"} == sandbox.account(KEY).list_names()


async def test_second_join_fires_only_with_the_switch(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    """Sailthru does not document this. The time of the first join stays."""
    await join(http, ADA, "Spring")
    sandbox.switches.rejoin_fires = True
    clock.advance(HOUR)
    await join(http, ADA, "Spring")

    assert entries(sandbox) == [("List Joined", "Spring", ADA)] * 2
    answer = await call(http, "GET", "/user", {"id": ADA, "fields": {"lists": 1}})
    assert answer.json() == {"lists": {"Spring": "Sat, 11 Apr 2026 05:00:00 -0700"}}


@pytest.mark.parametrize(
    ("payload", "status", "code"),
    [
        ({}, 400, 2),
        ({"id": ""}, 400, 2),
        ({"id": ADA, "key": "phone"}, 400, 99),
        ({"id": "ada"}, 400, 11),
        ({"id": ADA, "keys": {"email": "ada@nowhere"}}, 400, 11),
        ({"id": ADA, "keys": "email"}, 400, 99),
        ({"id": ADA, "lists": ["Spring"]}, 400, 99),
        ({"id": ADA, "lists": {"Spring": "1"}}, 400, 99),
        ({"id": ADA, "lists": {"Spring": 1, "$ale": 1}}, 400, 99),
        ({"id": ADA, "lists": {"Spring": 1}, "vars": {"x" * 33: 1}}, 400, 99),
        ({"id": ADA, "lists": {"Spring": 1}, "optout_email": "blast"}, 400, 99),
    ],
)
async def test_refused_change_changes_nothing(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, payload: Any, status: int, code: int
) -> None:
    """No profile and no list is created."""
    answer = await call(http, "POST", "/user", payload)

    assert (status, code) == (answer.status_code, answer.json()["error"])
    assert sandbox.account(KEY).profiles == {}
    assert sandbox.account(KEY).lists == []


async def test_names_of_vars_are_normalized(http: httpx.AsyncClient) -> None:
    """Special characters are dropped, a space becomes an underscore."""
    await call(http, "POST", "/user", {"id": ADA, "vars": {"first name": "Ada", "a.b-c$d%e": 1}})

    assert (await call(http, "GET", "/user", {"id": ADA})).json()["vars"] == {"first_name": "Ada", "abcde": 1}


async def test_missing_vars_and_lists_are_null(http: httpx.AsyncClient) -> None:
    await call(http, "POST", "/user", {"id": ADA})
    answer = (await call(http, "GET", "/user", {"id": ADA})).json()

    assert tuple(answer[name] for name in ("vars", "lists", "engagement", "optout_email")) == (
        None,
        None,
        "new",
        "none",
    )


async def test_unknown_fields_are_left_out(http: httpx.AsyncClient) -> None:
    answer = await call(http, "POST", "/user", {"id": ADA, "fields": {"activity": 1, "nonsense": 1, "keys": 0}})

    created = "Sat, 11 Apr 2026 05:00:00 -0700"
    assert {"activity": {"create_time": created, "signup_time": created}, "ok": True} == answer.json()


async def test_opt_out_is_kept_and_does_not_touch_lists(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A later change without an opt-out does not change it."""
    await join(http, ADA, "Spring")
    await call(http, "POST", "/user", {"id": ADA, "optout_email": "all"})
    await join(http, ADA, "Summer")
    answer = await call(http, "GET", "/user", {"id": ADA, "fields": {"optout_email": 1}})

    assert answer.json() == {"optout_email": "all"}
    assert {ADA} == sandbox.members("Spring") == sandbox.members("Summer")


async def test_person_without_address(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """An extid alone makes a profile. Lists show its sid."""
    await call(http, "POST", "/user", {"id": "crm-1", "key": "extid", "lists": {"Spring": 1}})
    found = (await call(http, "GET", "/user", {"id": "crm-1", "key": "extid"})).json()

    assert {"sid", "cookie", "extid"} == set(found["keys"])
    assert {found["keys"]["sid"]} == sandbox.members("Spring")
    assert account_state(sandbox)["profiles"] == {"count": 1, "addresses": []}


async def test_merge_keeps_the_earlier_join_and_starts_no_flow(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    """The profile of the new address stays, and takes over missing values."""
    await call(http, "POST", "/user", {"id": "crm-1", "key": "extid", "keys": {"email": ADA}, "lists": {"Spring": 1}})
    clock.advance(HOUR)
    await join(http, GRACE, "Spring")
    await call(http, "POST", "/user", {"id": ADA, "keys": {"email": GRACE}, "keysconflict": "merge"})
    found = (await call(http, "GET", "/user", {"id": "crm-1", "key": "extid"})).json()

    assert found["keys"]["email"] == GRACE
    assert found["lists"] == {"Spring": "Sat, 11 Apr 2026 05:00:00 -0700"}
    assert {GRACE} == sandbox.members("Spring")
    assert len(entries(sandbox)) == 2


async def test_conflicting_keys_are_refused_unless_merged(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A refused call creates no profile."""
    await join(http, GRACE, "Spring")
    answer = await call(http, "POST", "/user", {"id": ADA, "keys": {"email": GRACE}})

    assert (answer.status_code, answer.json()["error"]) == (400, 99)
    assert account_state(sandbox)["profiles"]["addresses"] == [GRACE]


async def test_deleted_person_is_on_no_list(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A later join creates a new profile."""
    await join(http, ADA, "Spring")
    sid = (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
    await call(http, "DELETE", "/user", {"id": ADA.upper()})
    await call(http, "POST", "/user", {"id": ADA})

    assert set() == sandbox.members("Spring")
    assert sid != (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
