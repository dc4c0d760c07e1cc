"""Faults of the Lytics sandbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext

import httpx
import pytest

from app.sandbox.faults import AnyFault, Empty, Error, Half, Hang, Html, Reset, Slow, Xml
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from tests.sandbox.caller import behind
from tests.virtual_time import run

TOKEN = "at.test.secret"
LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers")


@pytest.fixture
def lytics() -> LyticsSandbox:
    return LyticsSandbox(TOKEN, [SPRING_BUYERS, LAPSED])


@pytest.fixture
async def http(lytics: LyticsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with behind(lytics) as client:
        client.headers["Authorization"] = TOKEN
        yield client


@pytest.mark.parametrize(
    ("fault", "status", "content"),
    [
        (Error(status=429, text="Too many"), 429, '{"message":"Too many","status":429}'),
        (Xml(status=500, code=9), 500, "<error>9</error>"),
        (Html(status=503), 503, "<h1>503 Service Unavailable</h1>"),
        (Empty(status=200), 200, ""),
        (Slow(seconds=0), 200, '"name":"Lapsed Buyers"'),
    ],
)
async def test_fault_replaces_the_answer(
    lytics: LyticsSandbox, http: httpx.AsyncClient, fault: AnyFault, status: int, content: str
) -> None:
    """The `ids` of a rule are ids or slugs of audiences."""
    lytics.faults.set([Rule(fault, ids=frozenset({"lapsed_buyers"}), times=1)])
    other = await http.get("/v2/segment/spring_buyers")
    struck = await http.get("/v2/segment/lapsed_buyers")

    assert other.status_code == 200
    assert struck.status_code == status
    assert content in struck.text
    assert bool(content) is bool(struck.text)
    assert lytics.state()["faults"] == {fault.kind: 1}
    assert (await http.get("/v2/segment/lapsed_buyers")).status_code == 200


@pytest.mark.parametrize("fault", [Reset(), Half()])
async def test_reset_ends_the_connection(lytics: LyticsSandbox, http: httpx.AsyncClient, fault: AnyFault) -> None:
    lytics.faults.set([Rule(fault)])

    with pytest.raises(ConnectionResetError):
        await http.get("/v2/segment")


@pytest.mark.parametrize(("fault", "seconds"), [(Slow(seconds=3), 3), (Error(seconds=7), 7), (Hang(), 60)])
def test_slow_answer_is_late_and_hang_lasts_until_shutdown(fault: AnyFault, seconds: float) -> None:

    async def scene() -> None:
        lytics = LyticsSandbox(TOKEN)
        lytics.faults.set([Rule(fault)])
        loop = asyncio.get_running_loop()
        loop.call_later(60, lytics.shut_down)
        with pytest.raises(ConnectionResetError) if isinstance(fault, Hang) else nullcontext():
            async with behind(lytics) as http:
                await http.get("/v2/segment")

        assert loop.time() == pytest.approx(seconds)

    run(scene())


async def test_rules_are_set_and_shown_by_control_routes(http: httpx.AsyncClient) -> None:
    """A reset removes them."""
    rule = {"fault": {"kind": "error", "status": 403}, "endpoints": ["/v2/schema/user/field"]}
    await http.post("/_sandbox/faults", json={"rules": [rule]})
    answers = [await http.get(path) for path in ("/v2/schema/user/field", "/v2/segment")]
    shown = (await http.get("/_sandbox/faults")).json()
    refused = await http.post("/_sandbox/faults", json={"rules": [{**rule, "endpoints": ["/user"]}]})
    await http.post("/_sandbox/reset")

    assert [answer.status_code for answer in answers] == [403, 200]
    assert shown["rules"][0]["met"] == 1
    assert (refused.status_code, refused.json()["error"].partition(".")[0]) == (400, "No such endpoint: /user")
    assert (await http.get("/_sandbox/faults")).json() == {"seed": 0, "rules": []}
