"""The recorded answers from the tests of Lytics' own Go client.

The recordings are not part of this project, so the tests are skipped unless they are beside it. `test_reading.py` reads
examples in the same form from `tests/fixtures/lytics/v1`.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.audience import Audience
from app.domain.errors import CredentialsRefused
from app.domain.field import ProfileField
from app.lytics.client import LyticsClient
from tests.lytics.clients import answering, client_of, response

ROOT = Path(__file__).parents[2]
RECORDED = ROOT.parent / "shared" / "reference" / "fixtures" / "lytics" / "go-lytics"

pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded answers are not beside this checkout")

FIRST = Audience("f186a334ad7109bbe08880", "lytics_test_segment", "Lytics Test Segment")
SECOND = Audience("erg9erg8er6gerge90r8er", "lytics_test_segment_2", "Lytics Test Segment 2")


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.json").read_bytes()


def recording(name: str, status: int = 200) -> LyticsClient:
    return answering(status, recorded(name))


async def test_recorded_audience_is_read() -> None:
    async with recording("get_segment") as client:
        assert await client.audience(FIRST.slug) == FIRST


async def test_recorded_audiences_and_sizes_are_read() -> None:
    async with recording("get_segments") as client:
        audiences = await client.audiences()
    async with recording("get_segment_sizes") as client:
        sizes = {audience.id: audience.size for audience in await client.audiences()}

    assert audiences == [FIRST, SECOND]
    assert sizes == {FIRST.id: 1647, SECOND.id: 1647}


async def test_recorded_schema_is_read() -> None:
    async with recording("get_catalog_user") as client:
        fields = {field.name: field for field in await client.fields()}

    assert fields["region"] == ProfileField("region", "string", title="State/Province")
    assert fields["sample_user_id"] == ProfileField("sample_user_id", "string", is_identifier=True)
    assert fields["email"] == ProfileField("email", "", is_identifier=True)
    assert len(fields) == 9


async def test_recorded_scan_of_three_pages_is_read() -> None:
    numbers = {None: "1", "number2": "2", "number3": "3"}
    found: list[Any] = []
    totals = set()
    start: str | None = None

    def handler(request: httpx.Request) -> httpx.Response:
        number = numbers[request.url.params.get("start")]
        return response(200, recorded(f"get_segment_scan_{number}"))

    async with client_of(handler) as client:
        while True:
            page = await client.scan(FIRST.id, fields=["email"], start=start)
            found += page.rows
            totals.add(page.total)
            start = page.next
            if start is None:
                break

    assert [row["email"] for row in found] == [f"email{number}@example.com" for number in range(1, 14)]
    assert totals == {13}


async def test_recorded_refusal_is_read() -> None:
    async with recording("get_error", 401) as client:
        with pytest.raises(CredentialsRefused) as caught:
            await client.audiences()

    assert caught.value.code == "not_authorized"
