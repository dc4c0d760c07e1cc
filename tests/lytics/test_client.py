"""
Asking Lytics for an audience: against the sandbox, and against answers that it does not give.
"""

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.domain.audience import Audience
from app.domain.errors import (
    AppError,
    CallFailed,
    CredentialsRefused,
    LimitReached,
    NotFound,
    Permanent,
    Transient,
)
from app.lytics.client import LARGEST_ANSWER_BYTES, LyticsClient
from app.sandbox.lytics import LyticsSandbox

COMPOSED = Path(__file__).parents[1] / "fixtures" / "lytics" / "composed"
RECORDED = Path(__file__).parents[3] / "shared" / "reference" / "fixtures" / "lytics" / "go-lytics"
TOKEN = "at.abc.secret"
SPRING = Audience("0a1b2c3d4e5f60718293a4b5c6d7e8f9", "spring_buyers", "Spring Buyers")


def client_of(handler: Callable[[httpx.Request], httpx.Response]) -> LyticsClient:
    return LyticsClient(TOKEN, "https://api.example.com", transport=httpx.MockTransport(handler))


def answering(status: int, body: object) -> LyticsClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client_of(lambda _: httpx.Response(status, content=content))


def fixture(name: str) -> bytes:
    return (COMPOSED / f"{name}.json").read_bytes()


def segment(**different: object) -> dict[str, object]:
    return {"data": {"id": "abc", "slug_name": "vip", "name": "VIP"} | different, "status": 200}


@pytest.mark.parametrize("asked", [SPRING.id, SPRING.slug])
async def test_an_audience_is_found_by_id_or_slug(asked: str) -> None:
    transport = httpx.ASGITransport(LyticsSandbox(TOKEN))

    async with LyticsClient(TOKEN, "http://sandbox", transport=transport) as client:
        assert await client.audience(asked) == SPRING


async def test_the_answer_of_lytics_documentation_is_read() -> None:
    async with answering(200, fixture("v2_segment_get")) as client:
        assert await client.audience(SPRING.slug) == SPRING


async def test_the_answer_in_the_older_shape_is_read() -> None:
    path = RECORDED / "get_segment.json"
    if not path.exists():
        pytest.skip("the recorded answers are not here")

    async with answering(200, path.read_bytes()) as client:
        audience = await client.audience("lytics_test_segment")

    assert audience == Audience("f186a334ad7109bbe08880", "lytics_test_segment", "Lytics Test Segment")


async def test_the_token_travels_raw_in_its_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=segment())

    async with client_of(handler) as client:
        await client.audience("vip")
        shown = repr(client) + repr(vars(client))

    assert seen[0].headers["Authorization"] == TOKEN
    assert TOKEN not in str(seen[0].url)
    assert TOKEN not in caplog.text + shown


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("vip", b"/v2/segment/vip"),
        ("a/b?c#d", b"/v2/segment/a%2Fb%3Fc%23d"),
        ("../user", b"/v2/segment/..%2Fuser"),
        ("100% Zo\u00eb", b"/v2/segment/100%25%20Zo%C3%AB"),
        ("%2e%2e", b"/v2/segment/%252e%252e"),
    ],
)
async def test_an_id_can_not_leave_its_place_in_the_url(asked: str, path: bytes) -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json=segment())

    async with client_of(handler) as client:
        await client.audience(asked)

    assert seen == [path]


@pytest.mark.parametrize("asked", ["", ".", "..", "a" * 256, "\ud83d", "a\x00", "a\r\nb"])
async def test_what_can_be_no_id_is_not_asked_for(asked: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError

    async with client_of(handler) as client:
        with pytest.raises(NotFound):
            await client.audience(asked)


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (401, fixture("error_401_expired_token"), CredentialsRefused, "expired_token"),
        (401, fixture("error_401_not_authorized"), CredentialsRefused, "not_authorized"),
        (401, b"<html>", CredentialsRefused, "not_authorized"),
        (401, ["Expired Token"], CredentialsRefused, "not_authorized"),
        (401, {"message": 7}, CredentialsRefused, "not_authorized"),
        (403, {"status": 403, "errors": [{"code": "FORBIDDEN-026"}]}, CredentialsRefused, "forbidden"),
        (429, b"", LimitReached, 429),
        (400, {"status": 400, "errors": []}, Permanent, 400),
        (500, b"", Transient, 500),
        (503, b"<html>", Transient, 503),
        (302, b"", Transient, 302),
        (204, b"", Transient, 204),
        (200, b"", Transient, "unreadable"),
        (200, b"<html>", Transient, "unreadable"),
        (200, [], Transient, "unreadable"),
        (200, {"data": None}, Transient, "unreadable"),
        (200, segment(id=""), Transient, "unreadable"),
        (200, segment(id=7), Transient, "unreadable"),
        (200, segment(name=["VIP"]), Transient, "unreadable"),
        (200, b" " * (LARGEST_ANSWER_BYTES + 1), Transient, "unreadable"),
    ],
)
async def test_the_error_says_what_to_do_next(
    status: int, body: object, error: type[CallFailed], code: int | str
) -> None:
    async with answering(status, body) as client:
        with pytest.raises(CallFailed) as caught:
            await client.audience("vip")

    assert (type(caught.value), caught.value.code) == (error, code)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, fixture("v2_error_not_found"), "knows no such audience"),
        (404, b"", "knows no such audience"),
        (200, segment(deleted=True), "deleted"),
        (200, segment(name=""), "no name"),
        (200, segment(name="  "), "no name"),
        (200, segment(name=None), "no name"),
    ],
)
async def test_an_audience_that_can_not_be_exported_is_not_found(status: int, body: object, words: str) -> None:
    async with answering(status, body) as client:
        with pytest.raises(NotFound, match=words):
            await client.audience("vip")


async def test_a_slug_is_not_needed() -> None:
    async with answering(200, segment(slug_name=None)) as client:
        assert await client.audience("vip") == Audience("abc", "", "VIP")


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx.RemoteProtocolError("x"),
        httpx.DecodingError("x"),
        OSError("x"),
    ],
)
async def test_a_lost_answer_is_worth_another_try(error: Exception) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    async with client_of(handler) as client:
        with pytest.raises(Transient) as caught:
            await client.audience("vip")

    assert caught.value.code == "unreachable"
    assert caught.value.__context__ is None


class Dripping(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)


async def test_a_dripping_answer_ends_at_the_timeout() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Dripping()))

    async with LyticsClient(TOKEN, timeout=timedelta(milliseconds=100), transport=transport) as client:
        with pytest.raises(Transient) as caught:
            await client.audience("vip")

    assert caught.value.code == "timeout"


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
async def test_no_error_quotes_the_token_or_the_answer(status: int) -> None:
    async with answering(status, {"message": "quotes ada@example.com", "data": "ada@example.com"}) as client:
        with pytest.raises(AppError) as caught:
            await client.audience("vip")

    shown = "".join(traceback.format_exception(caught.value))
    assert "ada@" not in shown
    assert TOKEN not in shown
