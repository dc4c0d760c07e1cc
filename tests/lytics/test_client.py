"""The client with the sandbox, and with answers that the sandbox does not send."""

import asyncio
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

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
from app.domain.field import ProfileField
from app.lytics.client import LARGEST_ANSWER_BYTES, LyticsClient
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.sandbox.lytics.audiences import Audience as Segment
from app.sandbox.lytics.audiences import Field as SchemaField
from tests.lytics.clients import TOKEN, Waits, answering, client_of, composed, enveloped, response, segment

SPRING = Audience("0a1b2c3d4e5f60718293a4b5c6d7e8f9", "spring_buyers", "Spring Buyers")
LAPSED = Segment("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers", size=7)
DELETED = Segment("1" * 32, "Deleted", "deleted", is_deleted=True)
BROKEN = Segment("2" * 32, "Broken", "broken", is_invalid=True)
GOAL = Segment("3" * 32, "Goal", "goal", kind="goal")


def sandboxed(sandbox: LyticsSandbox) -> LyticsClient:
    return LyticsClient(TOKEN, "http://sandbox", transport=httpx.ASGITransport(sandbox), sleep=Waits())


@pytest.mark.parametrize("id_or_slug", [SPRING.id, SPRING.slug])
async def test_audience_is_found_by_id_or_slug(id_or_slug: str) -> None:
    async with sandboxed(LyticsSandbox(TOKEN)) as client:
        assert await client.audience(id_or_slug) == SPRING


async def test_audiences_have_sizes() -> None:
    """Deleted audiences, invalid audiences and goals are skipped."""
    sandbox = LyticsSandbox(TOKEN, [SPRING_BUYERS, LAPSED, DELETED, BROKEN, GOAL])

    async with sandboxed(sandbox) as client:
        audiences = await client.audiences()

    assert audiences == [
        Audience(SPRING.id, SPRING.slug, SPRING.name, 0),
        Audience(LAPSED.id, LAPSED.slug, LAPSED.name, 7),
    ]


async def test_fields_have_types() -> None:
    sandbox = LyticsSandbox(TOKEN, fields=[SchemaField("email", is_identifier=True), SchemaField("emails", "[]string")])

    async with sandboxed(sandbox) as client:
        fields = await client.fields()

    assert fields == [
        ProfileField("email", "string", is_identifier=True, is_pii=True, title="Email"),
        ProfileField("emails", "[]string", title="Emails"),
    ]


async def test_queries_ask_for_audiences_of_people_and_for_all_fields() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.raw_path.decode()}")
        return response(200, enveloped([]))

    async with client_of(handler) as client:
        await client.audiences()
        await client.fields()

    assert seen == ["GET /v2/segment?table=user&kind=segment&sizes=true", "GET /v2/schema/user/field?filter=all"]


async def test_answer_of_the_documentation_is_read() -> None:
    async with answering(200, composed("v2_segment_get")) as client:
        assert await client.audience(SPRING.slug) == Audience(SPRING.id, SPRING.slug, SPRING.name, 13)


async def test_token_is_sent_raw_in_its_header_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return response(200, enveloped(segment()))

    async with client_of(handler) as client:
        await client.audience("vip")
        shown = repr(client) + repr(vars(client))

    assert seen[0].headers["Authorization"] == TOKEN
    assert TOKEN not in str(seen[0].url)
    assert TOKEN not in caplog.text + shown


@pytest.mark.parametrize(
    ("id_or_slug", "part"),
    [
        ("vip", b"vip"),
        ("a/b?c#d", b"a%2Fb%3Fc%23d"),
        ("../user", b"..%2Fuser"),
        ("100% Zo\u00eb", b"100%25%20Zo%C3%AB"),
        ("%2e%2e", b"%252e%252e"),
    ],
)
async def test_id_stays_one_segment_of_the_path(id_or_slug: str, part: bytes) -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.partition(b"?")[0])
        is_scan = request.url.path.endswith("/scan")
        return response(200, enveloped([] if is_scan else segment()))

    async with client_of(handler) as client:
        await client.audience(id_or_slug)
        await client.scan(id_or_slug, fields=[], start=None)

    assert seen == [b"/v2/segment/" + part, b"/api/segment/" + part + b"/scan"]


@pytest.mark.parametrize("id_or_slug", ["", ".", "..", "a" * 256, "\ud83d", "a\x00", "a\r\nb"])
async def test_impossible_id_is_not_found_without_a_call(id_or_slug: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError

    async with client_of(handler) as client:
        with pytest.raises(NotFound):
            await client.audience(id_or_slug)
        with pytest.raises(NotFound):
            await client.scan(id_or_slug, fields=[], start=None)


ERRORS: list[tuple[int, object, type[CallFailed], int | str, str]] = [
    (401, composed("error_401_expired_token"), CredentialsRefused, "expired_token", "make a new one"),
    (401, composed("error_401_not_authorized"), CredentialsRefused, "not_authorized", "LYTICS_API_TOKEN"),
    (401, b"<html>", CredentialsRefused, "not_authorized", "LYTICS_API_TOKEN"),
    (401, ["Expired Token"], CredentialsRefused, "not_authorized", "LYTICS_API_TOKEN"),
    (401, {"message": 7}, CredentialsRefused, "not_authorized", "LYTICS_API_TOKEN"),
    (403, {"status": 403, "errors": [{"code": "FORBIDDEN-026"}]}, CredentialsRefused, "forbidden", "token's roles"),
    (429, b"", LimitReached, 429, "try again in a minute"),
    (400, {"status": 400, "errors": []}, Permanent, 400, "LYTICS_BASE_URL"),
    (500, b"", Transient, 500, "try again in a minute"),
    (503, b"<html>", Transient, 503, "try again in a minute"),
    (302, b"", Transient, 302, "LYTICS_BASE_URL"),
    (204, b"", Transient, 204, "try again in a minute"),
    (404, b"<html>", Transient, "unreadable", "LYTICS_BASE_URL"),
    (404, {"detail": "Not Found"}, Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, b"", Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, b"<html>", Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, [], Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, {}, Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, enveloped("abc"), Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, b" " * (LARGEST_ANSWER_BYTES + 1), Transient, "unreadable", "LYTICS_BASE_URL"),
    (200, {"status": 401, "message": "Expired Token", "data": None}, CredentialsRefused, "expired_token", "new one"),
    (200, {"status": "500", "message": "oops", "data": None}, Transient, 500, "try again"),
    (200, {"status": 400, "message": "oops", "data": None}, Permanent, 400, "LYTICS_BASE_URL"),
]


@pytest.mark.parametrize(("status", "body", "error", "code", "next_step"), ERRORS)
async def test_error_names_the_next_step(
    status: int, body: object, error: type[CallFailed], code: int | str, next_step: str
) -> None:
    """The caller reads the type, the operator reads the text. An error in the body of a 200 counts too."""
    async with answering(status, body) as client:
        for ask in (
            lambda: client.audience("vip"),
            client.audiences,
            client.fields,
            lambda: client.scan("vip", fields=[], start=None),
        ):
            with pytest.raises(CallFailed) as caught:
                await ask()

            assert (type(caught.value), caught.value.code) == (error, code)
            assert next_step in str(caught.value)


@pytest.mark.parametrize("data", [None, segment(id=""), segment(id=7), segment(name=["VIP"]), []])
async def test_other_document_is_no_audience(data: object) -> None:
    async with answering(200, enveloped(data)) as client:
        with pytest.raises(Transient) as caught:
            await client.audience("vip")

    assert caught.value.code == "unreadable"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, composed("v2_error_not_found"), "knows no such audience"),
        (404, b"", "knows no such audience"),
        (200, {"status": 404, "data": None}, "knows no such audience"),
        (200, enveloped(segment(deleted=True)), "deleted"),
        (200, enveloped(segment(name="")), "no name"),
        (200, enveloped(segment(name="  ")), "no name"),
        (200, enveloped(segment(name=None)), "no name"),
    ],
)
async def test_audience_that_cannot_be_exported_is_not_found(status: int, body: object, words: str) -> None:
    async with answering(status, body) as client:
        with pytest.raises(NotFound, match=words):
            await client.audience("vip")


async def test_404_of_a_list_is_permanent() -> None:
    """The server is not Lytics' API."""
    async with answering(404, b"") as client:
        for ask in (client.audiences, client.fields):
            with pytest.raises(Permanent, match="LYTICS_BASE_URL") as caught:
                await ask()

            assert caught.value.code == 404


async def test_audience_needs_no_slug() -> None:
    async with answering(200, enveloped(segment(slug_name=None))) as client:
        assert await client.audience("vip") == Audience("abc", "", "VIP")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("x"), "unreachable"),
        (httpx.ConnectTimeout("x"), "unreachable"),
        (httpx.ReadTimeout("x"), "timeout"),
        (httpx.RemoteProtocolError("x"), "unreachable"),
        (httpx.DecodingError("x"), "unreachable"),
        (OSError("x"), "unreachable"),
    ],
)
async def test_lost_answer_is_transient(error: Exception, code: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    async with client_of(handler) as client:
        with pytest.raises(Transient, match="check LYTICS_BASE_URL") as caught:
            await client.audience("vip")

    assert caught.value.code == code
    assert caught.value.__context__ is None


def subclasses(error: type[BaseException]) -> Iterator[type[BaseException]]:
    yield error
    for child in error.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize("error", list(subclasses(httpx.RequestError)))
async def test_every_httpx_error_is_transient(error: type[httpx.RequestError]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error("text of httpx")

    async with client_of(handler) as client:
        with pytest.raises(Transient) as caught:
            await client.audience("vip")

    is_timeout = issubclass(error, httpx.TimeoutException) and error is not httpx.ConnectTimeout
    assert caught.value.code == ("timeout" if is_timeout else "unreachable")


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown_host"),
        (ssl.SSLCertVerificationError("self-signed"), "no_tls"),
        (ConnectionRefusedError("refused"), "refused"),
    ],
)
async def test_connect_error_is_classified_by_its_cause(cause: OSError, code: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed") from cause

    async with client_of(handler) as client:
        with pytest.raises(Transient) as caught:
            await client.audience("vip")

    assert caught.value.code == code


class Dripping(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)


async def test_dripping_answer_ends_at_timeout() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Dripping()))
    timeout = timedelta(milliseconds=100)

    async with LyticsClient(TOKEN, timeout=timeout, transport=transport, sleep=Waits()) as client:
        with pytest.raises(Transient, match=r"within 0\.1 seconds") as caught:
            await client.audience("vip")

    assert caught.value.code == "timeout"


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
async def test_no_error_quotes_token_or_answer(status: int) -> None:
    async with answering(status, {"message": "quotes ada@example.com", "data": "ada@example.com"}) as client:
        with pytest.raises(AppError) as caught:
            await client.audience("vip")

    shown = "".join(traceback.format_exception(caught.value))
    assert "ada@" not in shown
    assert TOKEN not in shown
