"""Stale reads show the former state of a person for some time."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import SailthruSandbox
from tests.sandbox.caller import ADA, GRACE, Clock, call, join, leave

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def lag(sandbox: SailthruSandbox) -> None:
    sandbox.switches.stale_read_seconds = 10


async def read(http: httpx.AsyncClient, email: str = ADA) -> Any:
    """Return vars and names of lists, or the text of the error."""
    answer = (await call(http, "GET", "/user", {"id": email, "fields": {"vars": 1, "lists": 1}})).json()
    return answer.get("errormsg") or (answer["vars"], list(answer["lists"] or {}))


async def test_new_person_is_unknown_to_reads_at_first(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    """The list itself has the member at once."""
    await call(http, "POST", "/user", {"id": ADA, "lists": {"Spring": 1}, "vars": {"city": "Turin"}})
    clock.advance(9.999 * SECOND)
    early = await read(http)
    clock.advance(0.001 * SECOND)

    assert early == f"User not found with email: {ADA}"
    assert await read(http) == ({"city": "Turin"}, ["Spring"])
    assert sandbox.members("Spring") == {ADA}


async def test_each_change_appears_after_the_delay(http: httpx.AsyncClient, clock: Clock) -> None:
    """Changes appear in their order. Answers to changes are never stale."""
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


async def test_leave_is_hidden_until_the_delay_is_over(http: httpx.AsyncClient, clock: Clock) -> None:
    """The leave also appears when stale reads are switched off."""
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


async def test_changes_before_the_switch_are_not_hidden(sandbox: SailthruSandbox, http: httpx.AsyncClient) -> None:
    sandbox.switches.stale_read_seconds = 0
    await join(http, ADA, "Spring")
    sandbox.switches.stale_read_seconds = 3600

    assert await read(http) == (None, ["Spring"])
