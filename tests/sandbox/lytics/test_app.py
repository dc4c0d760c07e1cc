"""The Lytics sandbox answers in the documented form."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from tests.sandbox.caller import behind

FIXTURES = Path(__file__).parents[2] / "fixtures/lytics/composed"
TOKEN = "at.test.secret"
LAPSED = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers", size=7)
BROKEN = Audience("2" * 32, "Broken", "broken", kind="goal", is_invalid=True)


@pytest.fixture
def lytics() -> LyticsSandbox:
    return LyticsSandbox(TOKEN, [SPRING_BUYERS, LAPSED, BROKEN])


@pytest.fixture
async def http(lytics: LyticsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with behind(lytics) as client:
        client.headers["Authorization"] = TOKEN
        yield client


def shape(value: Any) -> Any:
    """Return names and JSON types without the values. The elements of an array are reduced to their distinct shapes."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        shapes = [shape(inner) for inner in value]
        return [inner for index, inner in enumerate(shapes) if inner not in shapes[:index]]
    return type(value).__name__


@pytest.mark.parametrize(
    ("path", "status", "fixture"),
    [
        (f"/v2/segment/{SPRING_BUYERS.id}?sizes=true", 200, "v2_segment_get"),
        ("/v2/segment/spring_buyers?sizes=true", 200, "v2_segment_get"),
        ("/v2/segment?table=user&kind=segment&sizes=true", 200, "v2_segment_list"),
        ("/v2/segment/unknown", 404, "v2_error_not_found"),
        ("/v2/schema/user/field", 200, "v2_schema_user_field"),
    ],
)
async def test_answers_have_the_documented_shape(http: httpx.AsyncClient, path: str, status: int, fixture: str) -> None:
    """Names and types equal the documented ones. Optional parts count if every example has them."""
    expected = json.loads((FIXTURES / f"{fixture}.json").read_text())
    if isinstance(expected.get("data"), list):
        expected["data"] = expected["data"][:1]
    answer = await http.get(path)

    assert answer.status_code == status
    assert shape(expected) == shape(answer.json())


async def test_audience_is_found_by_id_and_slug(http: httpx.AsyncClient) -> None:
    """The size is only sent on request."""
    by_id = (await http.get(f"/v2/segment/{LAPSED.id}")).json()["data"]
    by_slug = (await http.get("/v2/segment/lapsed_buyers?sizes=true")).json()["data"]

    assert (by_id["id"], by_id["name"], by_id["slug_name"]) == (LAPSED.id, LAPSED.name, LAPSED.slug)
    assert "size" not in by_id
    assert by_slug == by_id | {"size": 7}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Spring Buyers", "Lapsed Buyers", "Broken"}),
        ("?kind=segment", {"Spring Buyers", "Lapsed Buyers"}),
        ("?valid=false", {"Broken"}),
        ("?valid=true&kind=all", {"Spring Buyers", "Lapsed Buyers"}),
        ("?table=content", set()),
    ],
)
async def test_audiences_are_filtered(http: httpx.AsyncClient, query: str, names: set[str]) -> None:
    answer = await http.get(f"/v2/segment{query}")

    assert {audience["name"] for audience in answer.json()["data"]} == names


async def test_fields_are_filtered_by_type(http: httpx.AsyncClient) -> None:
    """Scalar and nonscalar fields together are all fields."""
    names = {}
    for kind in ("scalar", "nonscalar", "all"):
        answer = await http.get(f"/v2/schema/user/field?filter={kind}")
        names[kind] = {field["id"] for field in answer.json()["data"]}

    assert names["nonscalar"] == {"emails", "hourly"}
    assert names["scalar"] | names["nonscalar"] == names["all"]


@pytest.mark.parametrize("header", [None, "", "another", f"Bearer {TOKEN}"])
async def test_missing_or_malformed_token_is_refused(lytics: LyticsSandbox, header: str | None) -> None:
    """Even the right token is refused after `Bearer`. The error has the form of the older API."""
    async with behind(lytics) as http:
        answer = await http.get("/v2/segment", headers={} if header is None else {"Authorization": header})

    assert answer.status_code == 401
    assert json.loads((FIXTURES / "error_401_not_authorized.json").read_text()) == answer.json()


async def test_expired_token_is_refused_with_its_own_text(http: httpx.AsyncClient) -> None:
    await http.post("/_sandbox/availability", json={"token_expired": True})
    expired = await http.get("/v2/segment")
    await http.post("/_sandbox/availability", json={"token_expired": False})

    assert expired.status_code == 401
    assert json.loads((FIXTURES / "error_401_expired_token.json").read_text()) == expired.json()
    assert (await http.get("/v2/segment")).status_code == 200


async def test_unavailable_lytics_answers_503_until_reset(lytics: LyticsSandbox, http: httpx.AsyncClient) -> None:
    """The control routes still answer, and calls are still counted."""
    await http.post("/_sandbox/availability", json={"unreachable": True})
    answers = [await http.get("/v2/segment"), await http.get("/v2/segment/spring_buyers")]
    state = (await http.get("/_sandbox/state")).json()
    await http.post("/_sandbox/reset")

    assert [answer.status_code for answer in answers] == [503, 503]
    assert state["calls"] == {"GET /v2/segment": 1, "GET /v2/segment/{id}": 1}
    assert state["unreachable"]
    assert lytics.state()["calls"] == {}
    assert (await http.get("/v2/segment")).status_code == 200


async def test_audiences_are_added_and_renamed(http: httpx.AsyncClient) -> None:
    """The id stays. A missing slug stays too, or is derived from the name of a new audience."""
    added = {"audiences": [{"id": "new", "name": "Autumn Buyers"}, {"id": "slugged", "name": "X", "slug": "y"}]}
    await http.post("/_sandbox/audiences", json=added)
    await http.post("/_sandbox/audiences", json={"id": SPRING_BUYERS.id, "name": "Fans of spring"})
    names = {audience["id"]: audience["name"] for audience in (await http.get("/v2/segment")).json()["data"]}

    assert names == {
        SPRING_BUYERS.id: "Fans of spring",
        LAPSED.id: LAPSED.name,
        BROKEN.id: BROKEN.name,
        "new": "Autumn Buyers",
        "slugged": "X",
    }
    assert (await http.get("/v2/segment/autumn_buyers")).json()["data"]["id"] == "new"
    assert (await http.get("/v2/segment/y")).json()["data"]["id"] == "slugged"
    assert (await http.get("/v2/segment/spring_buyers")).json()["data"]["name"] == "Fans of spring"


@pytest.mark.parametrize("body", [{"id": "a"}, {"id": 1, "name": "A"}, {"audiences": "a"}, {"audiences": ["a"]}])
async def test_audience_needs_id_and_name(http: httpx.AsyncClient, body: Any) -> None:
    assert (await http.post("/_sandbox/audiences", json=body)).status_code == 400


@pytest.mark.parametrize(("method", "path"), [("POST", "/v2/segment"), ("GET", "/v2/nowhere"), ("GET", "/")])
async def test_unknown_paths_are_not_found(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NOTFOUND-003")
