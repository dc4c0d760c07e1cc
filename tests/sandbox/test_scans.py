"""The scan of an audience: pages, what is on them, and how they go wrong."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.sandbox.audiences import SPRING_BUYERS, Audience
from app.sandbox.faults import Empty, Half
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.people import address_of, person
from app.sandbox.rules import Rule

from .caller import ADA, Clock, behind

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


async def tell(http: httpx.AsyncClient, door: str, **wish: object) -> Any:
    answer = await http.post(f"/_sandbox/{door}", json=wish)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def page(http: httpx.AsyncClient, start: str = "", *, path: str = SCAN, **more: str) -> Any:
    answer = await http.get(path, params={"start": start, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def emails(page: Any) -> list[str | None]:
    return [row.get("email") for row in page["data"]]


def made_up(*numbers: int) -> list[str]:
    return [address_of(number) for number in numbers]


async def test_a_scan_from_page_to_page(http: httpx.AsyncClient) -> None:
    """Ten people each, where nobody asks for another number; the last page leads to no other."""
    await tell(http, "members", audience="spring_buyers", generate=23)
    first = await page(http)
    second = await page(http, first["_next"], path="/api/segment/spring_buyers/scan")
    third = await page(http, second["_next"])

    assert [len(one["data"]) for one in (first, second, third)] == [10, 10, 3]
    assert emails(first) + emails(second) + emails(third) == made_up(*range(23))
    assert third["_next"] == ""
    assert {one["total"] for one in (first, second, third)} == {23}
    assert (first["status"], first["message"]) == (200, "success")


@pytest.mark.parametrize(("limit", "rows"), [("3", 3), ("100", 100), ("1000", 100), ("", 10)])
async def test_a_page_has_at_most_a_hundred_people(http: httpx.AsyncClient, limit: str, rows: int) -> None:
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=200)

    assert len((await page(http, limit=limit))["data"]) == rows


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "9" * 5000])
async def test_a_limit_is_a_number(http: httpx.AsyncClient, limit: str) -> None:
    answer = await http.get(SCAN, params={"limit": limit})

    assert answer.status_code == 400
    assert answer.json() == {"data": None, "message": "invalid limit", "status": 400}


async def test_a_last_page_may_be_full(http: httpx.AsyncClient) -> None:
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=20)
    first = await page(http)

    assert (await page(http, first["_next"]))["_next"] == ""


async def test_all_scalars_are_texts(http: httpx.AsyncClient) -> None:
    """Also within objects, as in the recorded answers; nothing stays nothing."""
    profile = {"email": ADA, "visitct": 7, "score": 0.5, "is_member": False, "none": None, "by_hour": {"7": [1, True]}}
    await tell(http, "members", audience=SPRING_BUYERS.id, add=[{"_id": 15, **profile}])
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
async def test_only_the_fields_that_are_asked_for(http: httpx.AsyncClient, fields: str, names: set[str]) -> None:
    """The id too only if it is; all of them where none is named."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=1)
    (row,) = (await page(http, fields=fields))["data"]

    assert set(row) == names


async def test_who_leaves_during_a_scan_lets_it_miss_somebody(http: httpx.AsyncClient) -> None:
    """The pages behind shift; who enters meanwhile is found at the end."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    state = await tell(http, "members", audience=SPRING_BUYERS.id, remove=made_up(3), add=[{"email": ADA}])
    second = await page(http, first["_next"])

    assert emails(second) == [*made_up(11, 12, 13, 14), ADA]
    assert second["total"] == 15
    assert state["members"] == {SPRING_BUYERS.id: 15}


@pytest.mark.parametrize(("is_404", "status"), [(False, 400), (True, 404)])
async def test_tokens_expire(http: httpx.AsyncClient, is_404: bool, status: int) -> None:
    """All that were handed out so far; a scan that begins anew goes well."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    await tell(http, "scans", expire=True, unknown_token_is_404=is_404)
    answer = await http.get(SCAN, params={"start": first["_next"]})
    again = await page(http)

    assert (answer.status_code, answer.json()) == (status, {"data": None, "message": "unknown scan", "status": status})
    assert emails(await page(http, again["_next"])) == made_up(*range(10, 15))


@pytest.mark.parametrize("token", ["abc", "b\u00e4", "W10=", "e30=", "bnVsbA==", "WzAsICJhIiwgMTBd"])
async def test_a_made_up_token_is_unknown(http: httpx.AsyncClient, token: str) -> None:
    assert (await http.get(SCAN, params={"start": token})).status_code == 400


async def test_a_token_is_for_one_audience(http: httpx.AsyncClient) -> None:
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)

    assert (await http.get(f"/api/segment/{LAPSED.id}/scan", params={"start": first["_next"]})).status_code == 400


async def test_a_scan_that_goes_round_in_circles(http: httpx.AsyncClient) -> None:
    """The first page leads on, every other to itself; until a reset."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=35)
    await tell(http, "scans", loops=True)
    first = await page(http)
    second = await page(http, first["_next"])
    again = await page(http, second["_next"])
    await tell(http, "reset")
    healed = await page(http, first["_next"])

    assert first["_next"] == second["_next"] == again["_next"]
    assert emails(second) == emails(again) == emails(healed) == made_up(*range(10, 20))
    assert healed["_next"] != first["_next"]


async def test_an_audience_that_is_deleted_during_a_scan(http: httpx.AsyncClient) -> None:
    """It is gone for scans; asked for itself it says so."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=15)
    first = await page(http)
    await tell(http, "audiences", id=SPRING_BUYERS.id, name=SPRING_BUYERS.name, deleted=True)
    answer = await http.get(SCAN, params={"start": first["_next"]})
    shown = (await http.get(f"/v2/segment/{SPRING_BUYERS.id}")).json()["data"]

    assert answer.status_code == 404
    assert answer.json() == {"data": None, "message": "segment not found", "status": 404}
    assert (shown["deleted"], shown["name"], shown["slug_name"]) == (True, "Spring Buyers", "spring_buyers")


async def test_an_audience_that_never_was(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/segment/unknown/scan")).status_code == 404


async def test_a_scan_needs_the_token_of_the_account(lytics: LyticsSandbox) -> None:
    async with behind(lytics) as http:
        answer = await http.get(SCAN)

    assert (answer.status_code, answer.json()) == (401, {"message": "Not authorized", "status": 401})


async def test_the_size_of_an_audience_is_how_many_are_in_it(http: httpx.AsyncClient) -> None:
    """Where nobody was put in, also after a scan of it, what it says itself."""
    await tell(http, "members", audience=SPRING_BUYERS.id, generate=15)
    empty = await page(http, path="/api/segment/lapsed_buyers/scan")
    listed = (await http.get("/v2/segment?sizes=true")).json()["data"]

    assert (empty["data"], empty["total"], empty["_next"]) == ([], 0, "")
    assert [one["size"] for one in listed] == [15, 7]


async def test_every_answer_tells_the_time(lytics: LyticsSandbox, http: httpx.AsyncClient, clock: Clock) -> None:
    """Of the sandbox's clock, whether it goes well or not."""
    lytics.faults.set([Rule(Empty(status=503), times=1)])
    clock.advance(timedelta(hours=1))
    answers = [await http.get(path) for path in (SCAN, SCAN, "/v2/segment", "/nowhere")]

    assert [answer.status_code for answer in answers] == [503, 200, 200, 404]
    assert {answer.headers["Date"] for answer in answers} == {"Sat, 11 Apr 2026 13:00:00 GMT"}


async def test_rules_are_for_the_scan_of_one_audience(lytics: LyticsSandbox, http: httpx.AsyncClient) -> None:
    rule = {
        "fault": {"kind": "empty", "status": 503},
        "endpoints": ["/api/segment/{id}/scan"],
        "ids": ["Lapsed_Buyers"],
    }
    await tell(http, "faults", rules=[rule])
    paths = (SCAN, "/v2/segment/lapsed_buyers", "/api/segment/lapsed_buyers/scan")
    answers = [await http.get(path) for path in paths]

    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert lytics.calls == {"GET /api/segment/{id}/scan": 2, "GET /v2/segment/{id}": 1}


async def test_half_a_page(lytics: LyticsSandbox, http: httpx.AsyncClient) -> None:
    """In this process nothing is let through of it."""
    lytics.faults.set([Rule(Half(), endpoints=frozenset({"/api/segment/{id}/scan"}))])

    with pytest.raises(ConnectionResetError):
        await http.get(SCAN)


@pytest.mark.parametrize(
    ("door", "wish"),
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
async def test_a_wish_that_can_not_be_understood_changes_nothing(
    lytics: LyticsSandbox, http: httpx.AsyncClient, door: str, wish: dict[str, object]
) -> None:
    answer = await http.post(f"/_sandbox/{door}", json=wish)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert lytics.scans.size_of(SPRING_BUYERS) == 0
    assert not lytics.scans.switches.loops
