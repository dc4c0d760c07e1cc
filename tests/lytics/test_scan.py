"""Scans: the members of an audience, page by page."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from app.domain.errors import CredentialsRefused, NotFound, Permanent, ScanExpired, Transient
from app.domain.scan import ScanPage
from app.lytics.client import LyticsClient
from app.sandbox.faults import Half, Html
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.lytics.people import address_of
from app.sandbox.lytics.webhooks import user_id_of
from app.sandbox.rules import Rule
from tests.factories import ADA, NOON
from tests.lytics.clients import (
    TOKEN,
    Waits,
    answering,
    answering_in_turn,
    client_of,
    composed,
    enveloped,
    pages,
    response,
    segment,
)
from tests.sandbox.serving import HOST, running

EMPTY = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Empty", "empty")


@pytest.fixture
def lytics() -> LyticsSandbox:
    """Return a Lytics sandbox with 25 members in an audience."""
    lytics = LyticsSandbox(TOKEN, [SPRING_BUYERS, EMPTY], clock=lambda: NOON)
    lytics.scans.people[SPRING_BUYERS.id].generate(25)
    return lytics


@pytest.fixture
async def client(lytics: LyticsSandbox) -> AsyncIterator[LyticsClient]:
    async with LyticsClient(TOKEN, "http://sandbox", transport=httpx.ASGITransport(lytics), sleep=Waits()) as client:
        yield client


async def page_of(client: LyticsClient, start: str | None = None, *, limit: int = 10) -> ScanPage:
    return await client.scan(SPRING_BUYERS.id, fields=["email", "visitct"], start=start, limit=limit)


def emails(*found: ScanPage) -> list[object]:
    return [row["email"] for page in found for row in page.rows]


def generated(*numbers: int) -> list[str]:
    return [address_of(number) for number in numbers]


async def test_audience_is_read_to_its_end(client: LyticsClient) -> None:
    """Each member appears once, with the requested fields and the id. Scalars are text."""
    first = await page_of(client)
    second = await page_of(client, first.next)
    third = await page_of(client, second.next)

    assert emails(first, second, third) == generated(*range(25))
    assert (third.next, third.total, third.answered_at) == (None, 25, NOON)
    assert third.rows[0] == {"_id": user_id_of(address_of(20)), "email": address_of(20), "visitct": "21"}


async def test_empty_audience_has_one_empty_page(client: LyticsClient) -> None:
    page = await client.scan(EMPTY.id, fields=[], start=None)

    assert (page.rows, page.next, page.total) == ((), None, 0)


async def test_pages_shift_when_members_leave(lytics: LyticsSandbox, client: LyticsClient) -> None:
    """A scan can miss members, so a member that it did not return may still be in the audience."""
    first = await page_of(client)
    lytics.scans.people[SPRING_BUYERS.id].remove(generated(2, 7))
    lytics.scans.people[SPRING_BUYERS.id].add([{"email": ADA}])
    second = await page_of(client, first.next)
    third = await page_of(client, second.next)

    assert emails(second, third) == [*generated(*range(12, 25)), ADA]


@pytest.mark.parametrize("is_404", [True, False])
async def test_expired_scan_can_start_again(lytics: LyticsSandbox, client: LyticsClient, is_404: bool) -> None:
    first = await page_of(client)
    lytics.scans.expire()
    lytics.scans.switches.unknown_token_is_404 = is_404
    with pytest.raises(ScanExpired):
        await page_of(client, first.next)
    again = await page_of(client)

    assert again.rows == first.rows
    assert emails(await page_of(client, again.next)) == generated(*range(10, 20))


async def test_audience_deleted_during_scan_is_not_found(lytics: LyticsSandbox, client: LyticsClient) -> None:
    first = await page_of(client)
    lytics.put(replace(SPRING_BUYERS, is_deleted=True))
    with pytest.raises(NotFound):
        await page_of(client, first.next)
    with pytest.raises(NotFound):
        await page_of(client)


async def test_looping_scan_returns_its_own_token(lytics: LyticsSandbox, client: LyticsClient) -> None:
    lytics.scans.switches.loops = True
    first = await page_of(client)

    assert (await page_of(client, first.next)).next == first.next


async def test_cut_off_page_is_requested_again() -> None:
    """The test uses real HTTP, because only there half an answer arrives."""
    waits = Waits()
    async with running() as server:
        server.lytics.scans.people[SPRING_BUYERS.id].generate(3)
        server.lytics.faults.set([Rule(Half(), times=1), Rule(Html(status=502), times=1)])
        async with LyticsClient("token", f"http://{HOST}:{server.ports[1]}", sleep=waits, draw=lambda: 0.0) as client:
            page = await page_of(client)

    assert emails(page) == generated(0, 1, 2)
    assert page.answered_at is not None
    assert waits == [1, 2]


async def test_scan_follows_tokens_to_last_page() -> None:
    rows = [[{"_id": "1"}, {"_id": "2"}], [{"_id": "3"}], [{"_id": "4"}]]
    found: list[object] = []
    start: str | None = None

    async with client_of(pages(*rows, total=4)) as client:
        while True:
            page = await client.scan("vip", fields=["email"], start=start)
            found += page.rows
            start = page.next
            if start is None:
                break

    assert found == [row for page_rows in rows for row in page_rows]
    assert page.total == 4


@pytest.mark.parametrize(
    ("fields", "start", "limit", "query"),
    [
        (["email"], None, 100, {"fields": ["email,_id"], "limit": ["100"]}),
        (["_id", "email"], "", 7, {"fields": ["_id,email"], "limit": ["7"]}),
        (
            ["email", "city", "email"],
            "a b&c",
            100,
            {"fields": ["email,city,_id"], "limit": ["100"], "start": ["a b&c"]},
        ),
        ([], None, 100, {"fields": ["_id"], "limit": ["100"]}),
    ],
)
async def test_scan_requests_each_field_once_and_the_id(
    fields: list[str], start: str | None, limit: int, query: dict[str, list[str]]
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return response(200, enveloped([]))

    async with client_of(handler) as client:
        await client.scan("vip", fields=fields, start=start, limit=limit)

    assert seen[0].method == "GET"
    assert seen[0].url.path == "/api/segment/vip/scan"
    assert parse_qs(seen[0].url.query.decode()) == query


@pytest.mark.parametrize(
    ("date", "answered_at"),
    [
        ("Sat, 11 Apr 2026 12:00:00 GMT", datetime(2026, 4, 11, 12, tzinfo=UTC)),
        ("Sat, 11 Apr 2026 14:00:00 +0200", datetime(2026, 4, 11, 12, tzinfo=UTC)),
        ("Sat, 11 Apr 2026 12:00:00 -0000", datetime(2026, 4, 11, 12, tzinfo=UTC)),
        ("yesterday", None),
        ("Sat, 99 Apr 2026 12:00:00 GMT", None),
        (None, None),
    ],
)
async def test_page_carries_time_of_lytics_clock(date: str | None, answered_at: datetime | None) -> None:
    headers = {} if date is None else {"Date": date}

    async with answering_in_turn(response(200, enveloped([]), headers)) as client:
        page = await client.scan("vip", fields=[], start=None)

    assert page.answered_at == answered_at


@pytest.mark.parametrize("status", [400, 404])
async def test_expired_scan_differs_from_missing_audience(status: int) -> None:
    """The client reads the audience, because Lytics' answer to an expired scan is not documented."""
    existing = response(200, enveloped(segment()))
    deleted = response(200, enveloped(segment(deleted=True)))

    async with answering_in_turn(response(status), existing) as client:
        with pytest.raises(ScanExpired, match="begin it again") as caught:
            await client.scan("vip", fields=[], start="a")
    for gone in (response(404, composed("v2_error_not_found")), deleted):
        async with answering_in_turn(response(status), gone) as client:
            with pytest.raises(NotFound):
                await client.scan("vip", fields=[], start="a")
    async with answering_in_turn(response(status), response(401)) as client:
        with pytest.raises(CredentialsRefused):
            await client.scan("vip", fields=[], start="a")

    assert caught.value.code == "scan_expired"
    assert caught.value.__context__ is None


async def test_first_page_cannot_expire() -> None:
    """A 404 means a missing audience, and a 400 a refused call."""
    async with answering_in_turn(response(404), response(400)) as client:
        with pytest.raises(NotFound):
            await client.scan("vip", fields=[], start=None)
        with pytest.raises(Permanent) as caught:
            await client.scan("vip", fields=[], start="")

    assert type(caught.value) is Permanent
    assert caught.value.code == 400


async def test_other_refusal_of_later_page_is_permanent() -> None:
    async with answering_in_turn(response(422)) as client:
        with pytest.raises(Permanent) as caught:
            await client.scan("vip", fields=[], start="a")

    assert caught.value.code == 422


async def test_half_a_page_is_unreadable() -> None:
    body = response(200, enveloped([{"_id": "1"}, {"_id": "2"}], _next="")).content

    async with answering(200, body[: len(body) // 2]) as client:
        with pytest.raises(Transient) as caught:
            await client.scan("vip", fields=[], start=None)

    assert caught.value.code == "unreadable"
