"""Reads that lag behind: for some time they show a person as before."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox

from .caller import ADA, GRACE, Clock, call, join, leave

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def lag(sandbox: SailthruSandbox) -> None:
    sandbox.switches.stale_read_seconds = 10


async def read(http: httpx.AsyncClient, email: str = ADA) -> Any:
    """Vars, and the names of lists; the words of the error where there is one."""
    answer = (await call(http, "GET", "/user", {"id": email, "fields": {"vars": 1, "lists": 1}})).json()
    return answer.get("errormsg") or (answer["vars"], list(answer["lists"] or {}))


async def test_a_new_person_is_unknown_at_first(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    """To reads; the list has the member at once."""
    await call(http, "POST", "/user", {"id": ADA, "lists": {"Spring": 1}, "vars": {"city": "Turin"}})
    clock.advance(9.999 * SECOND)
    early = await read(http)
    clock.advance(0.001 * SECOND)

    assert early == f"User not found with email: {ADA}"
    assert await read(http) == ({"city": "Turin"}, ["Spring"])
    assert sandbox.members("Spring") == {ADA}


async def test_each_change_is_seen_in_its_time(http: httpx.AsyncClient, clock: Clock) -> None:
    """In the order they were made, each as long after it was made as the others; the answers to changes are never
    stale.
    """
    seen = []
    for list_name in ("Spring", "Summer", "Autumn"):
        payload = {"id": ADA, "lists": {list_name: 1}, "vars": {"last": list_name}, "fields": {"vars": 1}}
        answer = await call(http, "POST", "/user", payload)
        clock.advance(4 * SECOND)
        seen.append(await read(http))

        assert answer.json()["vars"] == {"last": list_name}

    for _ in range(3):
        clock.advance(4 * SECOND)
        seen.append(await read(http))

    assert seen == [
        f"User not found with email: {ADA}",
        f"User not found with email: {ADA}",
        ({"last": "Spring"}, ["Spring"]),
        ({"last": "Summer"}, ["Spring", "Summer"]),
        ({"last": "Autumn"}, ["Spring", "Summer", "Autumn"]),
        ({"last": "Autumn"}, ["Spring", "Summer", "Autumn"]),
    ]


async def test_who_has_left_seems_to_be_there(http: httpx.AsyncClient, clock: Clock) -> None:
    """Until the time is over, whoever else changes; or until reads are told to be fresh again."""
    await join(http, ADA, "Spring")
    clock.advance(60 * SECOND)
    await leave(http, ADA, "Spring")
    clock.advance(5 * SECOND)
    await join(http, GRACE, "Spring")
    seen = [await read(http)]
    await http.post("/_sandbox/switches", json={"stale_read_seconds": 4})
    seen.append(await read(http))
    await http.post("/_sandbox/switches", json={"stale_read_seconds": 0})

    assert seen == [(None, ["Spring"]), (None, [])]
    assert await read(http, GRACE) == (None, ["Spring"])


async def test_changes_made_before_are_not_hidden(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    """The sandbox remembers the past only while somebody may have to see it."""
    sandbox.switches.stale_read_seconds = 0
    await join(http, ADA, "Spring")
    sandbox.switches.stale_read_seconds = 3600

    assert await read(http) == (None, ["Spring"])
