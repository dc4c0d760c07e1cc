"""Scans of an audience: pages, rows and failures."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.faults import Empty, Half
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.lytics.people import address_of, person
from app.sandbox.rules import Rule
from tests.sandbox.caller import ADA, Clock, behind

TOKEN = "at.test.secret"
LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers", size=7)
SCAN = f"/api/segment/{SPRING_BUYERS.id}/scan"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lytics(clock: Clock) -> LyticsSandbox:
    return LyticsSandbox(TOKEN, [SPRING_BUYERS, LAPSED], clock=clock)


@pytest.fixture
async def http(lytics: LyticsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with behind(lytics) as client:
        client.headers["Authorization"] = TOKEN
        yield client


async def control(http: httpx.AsyncClient, route: str, **body: object) -> Any:
    answer = await http.post(f"/_sandbox/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def page(http: httpx.AsyncClient, start: str = "", *, path: str = SCAN, **more: str) -> Any:
    answer = await http.get(path, params={"start": start, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def emails(page: Any) -> list[str | None]:
    return [row.get("email") for row in page["data"]]


def generated(*numbers: int) -> list[str]:
    return [address_of(number) for number in numbers]


async def test_scan_reads_all_pages(http: httpx.AsyncClient) -> None:
    """A page has ten people by default. The last page has no token."""
    await control(http, "members", audience="spring_buyers", generate=23)
    first = await page(http)
    second = await page(http, first["_next"], path="/api/segment/spring_buyers/scan")
    third = await page(http, second["_next"])

    assert [len(body["data"]) for body in (first, second, third)] == [10, 10, 3]
    assert emails(first) + emails(second) + emails(third) == generated(*range(23))
    assert third["_next"] == ""
    assert {body["total"] for body in (first, second, third)} == {23}
    assert (first["status"], first["message"]) == (200, "success")


@pytest.mark.parametrize(("limit", "rows"), [("3", 3), ("100", 100), ("1000", 100), ("", 10)])
async def test_page_has_at_most_100_people(http: httpx.AsyncClient, limit: str, rows: int) -> None:
    await control(http, "members", audience=SPRING_BUYERS.id, generate=200)

    assert len((await page(http, limit=limit))["data"]) == rows


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "9" * 5000])
async def test_limit_must_be_a_number(http: httpx.AsyncClient, limit: str) -> None:
    answer = await http.get(SCAN, params={"limit": limit})

    assert answer.status_code == 400
    assert answer.json() == {"data": None, "message": "invalid limit", "status": 400}


async def test_last_page_may_be_full(http: httpx.AsyncClient) -> None:
    await control(http, "members", audience=SPRING_BUYERS.id, generate=20)
    first = await page(http)

    assert (await page(http, first["_next"]))["_next"] == ""


async def test_scalars_are_strings(http: httpx.AsyncClient) -> None:
    """This includes scalars within objects, as in the recorded answers. Null stays null."""
    profile = {"email": ADA, "visitct": 7, "score": 0.5, "is_member": False, "none": None, "by_hour": {"7": [1, True]}}
    await control(http, "members", audience=SPRING_BUYERS.id, add=[{"_id": 15, **profile}])
    (row,) = (await page(http))["data"]

    assert row == {
        "_id": "15",
        "email": ADA,
        "visitct": "7",
        "score": "0.5",
        "is_member": "false",
        "none": None,
        "by_hour": {"7": ["1", "true"]},
        "segments": ["spring_buyers"],
    }


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("email,city", {"email", "city"}),
        ("_id,email,segments", {"_id", "email", "segments"}),
        ("nothing", set()),
        ("", {*person(0), "segments"}),
    ],
)
async def test_only_requested_fields_are_sent(http: httpx.AsyncClient, fields: str, names: set[str]) -> None:
    """The id is a field too. Without a request all fields are sent."""
    await control(http, "members", audience=SPRING_BUYERS.id, generate=1)
    (row,) = (await page(http, fields=fields))["data"]

    assert set(row) == names


async def test_removal_during_a_scan_makes_it_skip_a_member(http: httpx.AsyncClient) -> None:
    """New members are on the last page."""
    await control(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    state = await control(http, "members", audience=SPRING_BUYERS.id, remove=generated(3), add=[{"email": ADA}])
    second = await page(http, first["_next"])

    assert emails(second) == [*generated(11, 12, 13, 14), ADA]
    assert second["total"] == 15
    assert state["members"] == {SPRING_BUYERS.id: 15}


@pytest.mark.parametrize(("is_404", "status"), [(False, 400), (True, 404)])
async def test_scan_tokens_expire(http: httpx.AsyncClient, is_404: bool, status: int) -> None:
    """A new scan succeeds."""
    await control(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    await control(http, "scans", expire=True, unknown_token_is_404=is_404)
    answer = await http.get(SCAN, params={"start": first["_next"]})
    again = await page(http)

    assert (answer.status_code, answer.json()) == (status, {"data": None, "message": "unknown scan", "status": status})
    assert emails(await page(http, again["_next"])) == generated(*range(10, 15))


@pytest.mark.parametrize("token", ["abc", "b\u00e4", "W10=", "e30=", "bnVsbA==", "WzAsICJhIiwgMTBd"])
async def test_invented_token_is_unknown(http: httpx.AsyncClient, token: str) -> None:
    assert (await http.get(SCAN, params={"start": token})).status_code == 400


async def test_token_is_valid_for_one_audience(http: httpx.AsyncClient) -> None:
    await control(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)

    assert (await http.get(f"/api/segment/{LAPSED.id}/scan", params={"start": first["_next"]})).status_code == 400


async def test_looping_scan_repeats_the_second_page_until_reset(http: httpx.AsyncClient) -> None:
    await control(http, "members", audience=SPRING_BUYERS.id, generate=35)
    await control(http, "scans", loops=True)
    first = await page(http)
    second = await page(http, first["_next"])
    again = await page(http, second["_next"])
    await control(http, "reset")
    healed = await page(http, first["_next"])

    assert first["_next"] == second["_next"] == again["_next"]
    assert emails(second) == emails(again) == emails(healed) == generated(*range(10, 20))
    assert healed["_next"] != first["_next"]


async def test_audience_deleted_during_a_scan_is_not_found(http: httpx.AsyncClient) -> None:
    """The audience itself is still shown, as deleted."""
    await control(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    await control(http, "audiences", id=SPRING_BUYERS.id, name=SPRING_BUYERS.name, deleted=True)
    answer = await http.get(SCAN, params={"start": first["_next"]})
    shown = (await http.get(f"/v2/segment/{SPRING_BUYERS.id}")).json()["data"]

    assert answer.status_code == 404
    assert answer.json() == {"data": None, "message": "segment not found", "status": 404}
    assert (shown["deleted"], shown["name"], shown["slug_name"]) == (True, "Spring Buyers", "spring_buyers")


async def test_scan_of_an_unknown_audience_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/segment/unknown/scan")).status_code == 404


async def test_scan_needs_the_api_token(lytics: LyticsSandbox) -> None:
    async with behind(lytics) as http:
        answer = await http.get(SCAN)

    assert (answer.status_code, answer.json()) == (401, {"message": "Not authorized", "status": 401})


async def test_size_is_the_number_of_members(http: httpx.AsyncClient) -> None:
    """An audience without members has its own `size`, even after a scan."""
    await control(http, "members", audience=SPRING_BUYERS.id, generate=15)
    empty = await page(http, path="/api/segment/lapsed_buyers/scan")
    listed = (await http.get("/v2/segment?sizes=true")).json()["data"]

    assert (empty["data"], empty["total"], empty["_next"]) == ([], 0, "")
    assert [audience["size"] for audience in listed] == [15, 7]


async def test_every_answer_has_the_date_of_the_clock(
    lytics: LyticsSandbox, http: httpx.AsyncClient, clock: Clock
) -> None:
    lytics.faults.set([Rule(Empty(status=503), times=1)])
    clock.advance(timedelta(hours=1))
    answers = [await http.get(path) for path in (SCAN, SCAN, "/v2/segment", "/nowhere")]

    assert [answer.status_code for answer in answers] == [503, 200, 200, 404]
    assert {answer.headers["Date"] for answer in answers} == {"Sat, 11 Apr 2026 13:00:00 GMT"}


async def test_rule_applies_to_the_scan_of_one_audience(lytics: LyticsSandbox, http: httpx.AsyncClient) -> None:
    rule = {
        "fault": {"kind": "empty", "status": 503},
        "endpoints": ["/api/segment/{id}/scan"],
        "ids": ["Lapsed_Buyers"],
    }
    await control(http, "faults", rules=[rule])
    paths = (SCAN, "/v2/segment/lapsed_buyers", "/api/segment/lapsed_buyers/scan")
    answers = [await http.get(path) for path in paths]

    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert lytics.calls == {"GET /api/segment/{id}/scan": 2, "GET /v2/segment/{id}": 1}


async def test_half_a_page_ends_the_connection(lytics: LyticsSandbox, http: httpx.AsyncClient) -> None:
    """A client in this process receives nothing."""
    lytics.faults.set([Rule(Half(), endpoints=frozenset({"/api/segment/{id}/scan"}))])

    with pytest.raises(ConnectionResetError):
        await http.get(SCAN)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("members", {"generate": 1}),
        ("members", {"audience": "unknown", "generate": 1}),
        ("members", {"audience": "spring_buyers", "generate": -1}),
        ("members", {"audience": "spring_buyers", "generate": True}),
        ("members", {"audience": "spring_buyers", "generate": 10**9}),
        ("members", {"audience": "spring_buyers", "add": {}}),
        ("members", {"audience": "spring_buyers", "add": ["ada"]}),
        ("members", {"audience": "spring_buyers", "add": [{"city": "Rome"}], "generate": 3}),
        ("members", {"audience": "spring_buyers", "remove": [7]}),
        ("scans", {"loops": "yes"}),
        ("scans", {"expire": "yes"}),
        ("scans", {"unknown": True}),
        ("audiences", {"id": "a", "name": "A", "deleted": "yes"}),
    ],
)
async def test_invalid_control_request_changes_nothing(
    lytics: LyticsSandbox, http: httpx.AsyncClient, route: str, body: dict[str, object]
) -> None:
    answer = await http.post(f"/_sandbox/{route}", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert lytics.scans.size_of(SPRING_BUYERS) == 0
    assert not lytics.scans.switches.loops
