"""`/user`, beyond what the scripts of exchanges show."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox

from .caller import ADA, GRACE, KEY, Clock, account_state, call, join, leave

HOUR = timedelta(hours=1)


def entries(sandbox: SailthruSandbox) -> list[tuple[str, str, str | None]]:
    return [(event.entry, event.list, event.email) for event in sandbox.account(KEY).lo_events]


async def test_flows_start_on_transitions_only(sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock) -> None:
    """Joining, joining again, leaving, leaving again, leaving what does not exist, joining anew."""
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


async def test_a_join_again_may_fire_again(sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock) -> None:
    """Not published, so a switch. The time of joining stays the first one either way."""
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
async def test_a_refused_change_changes_nothing(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, payload: Any, status: int, code: int
) -> None:
    """All or nothing: no profile, no list is left behind."""
    answer = await call(http, "POST", "/user", payload)

    assert (status, code) == (answer.status_code, answer.json()["error"])
    assert sandbox.account(KEY).profiles == {}
    assert sandbox.account(KEY).lists == []


async def test_names_of_vars_are_made_legal(http: httpx.AsyncClient) -> None:
    """Special characters are dropped, a space becomes an underscore."""
    await call(http, "POST", "/user", {"id": ADA, "vars": {"first name": "Ada", "a.b-c$d%e": 1}})

    assert (await call(http, "GET", "/user", {"id": ADA})).json()["vars"] == {"first_name": "Ada", "abcde": 1}


async def test_who_has_nothing_has_null(http: httpx.AsyncClient) -> None:
    """No vars and no lists read null."""
    await call(http, "POST", "/user", {"id": ADA})
    answer = (await call(http, "GET", "/user", {"id": ADA})).json()

    assert tuple(answer[name] for name in ("vars", "lists", "engagement", "optout_email")) == (
        None,
        None,
        "new",
        "none",
    )


async def test_fields_not_known_are_left_out(http: httpx.AsyncClient) -> None:
    answer = await call(http, "POST", "/user", {"id": ADA, "fields": {"activity": 1, "nonsense": 1, "keys": 0}})

    created = "Sat, 11 Apr 2026 05:00:00 -0700"
    assert {"activity": {"create_time": created, "signup_time": created}, "ok": True} == answer.json()


async def test_opting_out_is_kept_and_leaves_lists_alone(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """A later change that does not name the opt-out does not touch it."""
    await join(http, ADA, "Spring")
    await call(http, "POST", "/user", {"id": ADA, "optout_email": "all"})
    await join(http, ADA, "Summer")
    answer = await call(http, "GET", "/user", {"id": ADA, "fields": {"optout_email": 1}})

    assert answer.json() == {"optout_email": "all"}
    assert {ADA} == sandbox.members("Spring") == sandbox.members("Summer")


async def test_a_person_without_address(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """An extid alone makes a profile; it stands on lists under its sid, and has no address to show."""
    await call(http, "POST", "/user", {"id": "crm-1", "key": "extid", "lists": {"Spring": 1}})
    found = (await call(http, "GET", "/user", {"id": "crm-1", "key": "extid"})).json()

    assert {"sid", "cookie", "extid"} == set(found["keys"])
    assert {found["keys"]["sid"]} == sandbox.members("Spring")
    assert account_state(sandbox)["profiles"] == {"count": 1, "addresses": []}


async def test_merging_keeps_the_earlier_join_and_starts_no_flow(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    """The record of the new address survives, takes what it lacks, the extid included, and keeps what it has."""
    await call(http, "POST", "/user", {"id": "crm-1", "key": "extid", "keys": {"email": ADA}, "lists": {"Spring": 1}})
    clock.advance(HOUR)
    await join(http, GRACE, "Spring")
    await call(http, "POST", "/user", {"id": ADA, "keys": {"email": GRACE}, "keysconflict": "merge"})
    found = (await call(http, "GET", "/user", {"id": "crm-1", "key": "extid"})).json()

    assert found["keys"]["email"] == GRACE
    assert found["lists"] == {"Spring": "Sat, 11 Apr 2026 05:00:00 -0700"}
    assert {GRACE} == sandbox.members("Spring")
    assert len(entries(sandbox)) == 2


async def test_keys_in_conflict_are_refused_unless_to_be_merged(
    sandbox: SailthruSandbox, http: httpx.AsyncClient
) -> None:
    """Also for somebody who would be new: nobody is made."""
    await join(http, GRACE, "Spring")
    answer = await call(http, "POST", "/user", {"id": ADA, "keys": {"email": GRACE}})

    assert (answer.status_code, answer.json()["error"]) == (400, 99)
    assert account_state(sandbox)["profiles"]["addresses"] == [GRACE]


async def test_who_is_deleted_is_off_every_list(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """Under another case of the address too; and comes back as somebody new."""
    await join(http, ADA, "Spring")
    sid = (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
    await call(http, "DELETE", "/user", {"id": ADA.upper()})
    await call(http, "POST", "/user", {"id": ADA})

    assert set() == sandbox.members("Spring")
    assert sid != (await call(http, "GET", "/user", {"id": ADA})).json()["keys"]["sid"]
