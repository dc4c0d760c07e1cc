"""
Who is in an audience, page by page.
"""

from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from app.domain.errors import CredentialsRefused, NotFound, Permanent, ScanExpired, Transient
from tests.lytics.clients import answering, answering_in_turn, client_of, composed, enveloped, pages, response, segment


async def test_a_scan_goes_from_page_to_page() -> None:
    """
    Until a page leads to no other.
    """
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
    ("fields", "start", "limit", "asked"),
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
async def test_only_what_is_needed_is_asked_for(
    fields: list[str], start: str | None, limit: int, asked: dict[str, list[str]]
) -> None:
    """
    The Lytics id always is, each field once.
    """
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return response(200, enveloped([]))

    async with client_of(handler) as client:
        await client.scan("vip", fields=fields, start=start, limit=limit)

    assert seen[0].method == "GET"
    assert seen[0].url.path == "/api/segment/vip/scan"
    assert parse_qs(seen[0].url.query.decode()) == asked


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
async def test_the_time_is_that_of_lytics(date: str | None, answered_at: datetime | None) -> None:
    headers = {} if date is None else {"Date": date}

    async with answering_in_turn(response(200, enveloped([]), headers)) as client:
        page = await client.scan("vip", fields=[], start=None)

    assert page.answered_at == answered_at


@pytest.mark.parametrize("status", [400, 404])
async def test_a_forgotten_place_is_told_from_an_audience_that_is_gone(status: int) -> None:
    """
    The audience is asked for, since it is not documented how Lytics says either.
    """
    there = response(200, enveloped(segment()))
    deleted = response(200, enveloped(segment(deleted=True)))

    async with answering_in_turn(response(status), there) as client:
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


async def test_a_first_page_can_not_be_forgotten() -> None:
    """
    There 404 is a missing audience, and 400 a call that Lytics does not take.
    """
    async with answering_in_turn(response(404), response(400)) as client:
        with pytest.raises(NotFound):
            await client.scan("vip", fields=[], start=None)
        with pytest.raises(Permanent) as caught:
            await client.scan("vip", fields=[], start="")

    assert type(caught.value) is Permanent
    assert caught.value.code == 400


async def test_another_refusal_of_a_later_page_is_what_it_is() -> None:
    async with answering_in_turn(response(422)) as client:
        with pytest.raises(Permanent) as caught:
            await client.scan("vip", fields=[], start="a")

    assert caught.value.code == 422


async def test_half_a_page_is_not_taken_for_a_whole() -> None:
    body = response(200, enveloped([{"_id": "1"}, {"_id": "2"}], _next="")).content

    async with answering(200, body[: len(body) // 2]) as client:
        with pytest.raises(Transient) as caught:
            await client.scan("vip", fields=[], start=None)

    assert caught.value.code == "unreadable"
