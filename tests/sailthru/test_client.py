"""Single calls over HTTP: the request, the reuse of transports, and the error for each failure."""

import asyncio
import gzip
import json
import logging
import re
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import httpx
import pytest
import respx

from app.domain.errors import CallFailed, LimitReached, NotSent, OutcomeUnknown, Permanent, Transient
from app.sailthru.client import LARGEST_ANSWER_BYTES, Method, SailthruClient
from app.sailthru.failures import FAILURES
from app.sailthru.protocol import Credentials, RateLimit, signature

from . import servers

SECRET = "s3cr3t"
CREDENTIALS = Credentials("test_key", SECRET)
ADDRESS = "ada@example.com"
PAYLOAD = {"id": ADDRESS, "key": "email"}
SHORT = timedelta(milliseconds=300)
OK = httpx.Response(200, json={"ok": True})


def client_of(handler: Callable[[httpx.Request], httpx.Response]) -> SailthruClient:
    return SailthruClient(CREDENTIALS, transport=lambda: httpx.MockTransport(handler))


def raising(error: Exception) -> SailthruClient:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    return client_of(handler)


def at(base_url: str, timeout: timedelta = timedelta(seconds=15), lanes: int = 64) -> SailthruClient:
    return SailthruClient(Credentials("test_key", SECRET, base_url), timeout=timeout, lanes=lanes)


def subclasses(error: type[BaseException]) -> Iterator[type[BaseException]]:
    yield error
    for child in error.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_call_sends_four_fields_in_query_or_form(method: Method) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return OK

    async with client_of(handler) as client:
        answer = await client.call(method, "user", {"id": "ada+1@example.com", "vars": {"name": "Zoë & Co"}})

    request = seen[0]
    text = request.url.query if method == "GET" else request.content
    fields = {name: values[0] for name, values in parse_qs(text.decode(), strict_parsing=True).items()}
    sig = fields.pop("sig")
    assert answer == {"ok": True}
    assert request.url.copy_with(query=None) == "https://api.sailthru.com/user"
    assert fields == {
        "api_key": "test_key",
        "format": "json",
        "json": '{"id":"ada+1@example.com","vars":{"name":"Zoë & Co"}}',
    }
    assert sig == signature(SECRET, fields)


async def test_call_sends_user_agent_and_accepts_gzip() -> None:
    seen: list[httpx.Headers] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=gzip.compress(b'{"ok": true}'))

    async with client_of(handler) as client:
        answer = await client.call("POST", "user", PAYLOAD)

    assert answer == {"ok": True}
    assert re.fullmatch(r"lytics-sailthru/\d+\.\d+\.\d+.*", seen[0]["User-Agent"])
    assert seen[0]["Accept-Encoding"] == "gzip"


async def test_rate_limit_of_error_is_reported() -> None:
    reported: list[tuple[str, str, RateLimit]] = []
    headers = {"X-Rate-Limit-Limit": "18000", "X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "1633218420"}
    client = SailthruClient(
        CREDENTIALS,
        transport=lambda: httpx.MockTransport(
            lambda _: httpx.Response(429, headers=headers, json={"error": 43, "errormsg": "Too many"})
        ),
        on_rate_limit=lambda *args: reported.append(args),
    )

    async with client:
        with pytest.raises(LimitReached) as caught:
            await client.call("POST", "user", PAYLOAD)

    resets_at = datetime(2021, 10, 2, 23, 47, tzinfo=UTC)
    assert reported == [("POST", "user", RateLimit(18000, 0, resets_at))]
    assert caught.value.resets_at == resets_at


async def test_value_without_json_form_is_permanent_and_not_sent() -> None:
    async with raising(AssertionError("nothing may be sent")) as client:
        with pytest.raises(Permanent) as caught:
            await client.call("POST", "user", {"vars": {"score": float("nan")}})

    assert caught.value.code == "unencodable"


@respx.mock(assert_all_mocked=True)
async def test_redirects_and_cookies_are_not_followed(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("https://api.sailthru.com/user").mock(
        return_value=httpx.Response(302, headers={"Location": "https://elsewhere.example.com/", "Set-Cookie": "a=b"})
    )

    async with SailthruClient(CREDENTIALS) as client:
        for _ in range(2):
            with pytest.raises(Transient, match="redirect"):
                await client.call("POST", "user", PAYLOAD)

    assert route.call_count == 2
    assert "Cookie" not in route.calls.last.request.headers


NOT_SENT = {
    httpx.ConnectError: "refused",
    httpx.ProxyError: "refused",
    httpx.ConnectTimeout: "unreachable",
    httpx.PoolTimeout: "unreachable",
    httpx.UnsupportedProtocol: "unreachable",
    httpx.LocalProtocolError: "unreachable",
}
MAYBE_SENT = {
    httpx.WriteTimeout: "timeout",
    httpx.ReadTimeout: "timeout",
    httpx.TimeoutException: "timeout",
    httpx.WriteError: "reset",
    httpx.ReadError: "reset",
    httpx.CloseError: "reset",
    httpx.NetworkError: "reset",
    httpx.RemoteProtocolError: "reset",
    httpx.TransportError: "reset",
    httpx.RequestError: "reset",
    httpx.ProtocolError: "unreadable",
    httpx.DecodingError: "unreadable",
    httpx.TooManyRedirects: "unreadable",
}


@pytest.mark.parametrize("error", list(subclasses(httpx.RequestError)))
async def test_every_httpx_error_is_mapped(error: type[httpx.RequestError]) -> None:
    async with raising(error("words of httpx")) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call("POST", "user", PAYLOAD)

    expected = (NotSent, NOT_SENT[error]) if error in NOT_SENT else (OutcomeUnknown, MAYBE_SENT[error])
    assert error in FAILURES
    assert (type(caught.value), caught.value.code) == expected


async def test_unknown_httpx_error_counts_as_its_ancestor() -> None:
    class NewError(httpx.ReadError):
        pass

    async with raising(NewError("")) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == "reset"


async def test_unwrapped_tls_error_leaves_outcome_unknown() -> None:
    async with raising(ssl.SSLError("bad record")) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == "reset"


async def test_error_carries_no_cause_that_holds_the_request() -> None:
    error = httpx.ReadTimeout("quotes ada@example.com", request=httpx.Request("GET", "https://x/?sig=abc"))
    async with raising(error) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.call("GET", "user", PAYLOAD)

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert ADDRESS not in "".join(traceback.format_exception(caught.value))


class Connecting(httpx.AsyncBaseTransport):
    """A transport that reports steps of httpcore's trace, and then hangs or fails."""

    def __init__(self, steps: list[str], error: Exception | None = None) -> None:
        self.steps = steps
        self.error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for step in self.steps:
            await request.extensions["trace"](step, {})
        if self.error:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(
    ("steps", "error", "code"),
    [
        (["connection.connect_tcp.started"], NotSent, "unreachable"),
        (["connection.connect_tcp.started", "connection.start_tls.started"], NotSent, "unreachable"),
        (["connection.connect_tcp.started", "http11.send_request_headers.started"], OutcomeUnknown, "timeout"),
        (["http11.send_request_headers.started"], OutcomeUnknown, "timeout"),
        ([], OutcomeUnknown, "timeout"),
    ],
)
async def test_timeout_depends_on_how_far_the_call_got(steps: list[str], error: type[CallFailed], code: str) -> None:
    client = SailthruClient(CREDENTIALS, timeout=timedelta(milliseconds=20), transport=lambda: Connecting(steps))

    async with client:
        with pytest.raises(error) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == code


async def test_system_error_while_connecting_is_not_sent() -> None:
    transport = Connecting(["connection.connect_tcp.started"], OSError("no route"))

    async with SailthruClient(CREDENTIALS, transport=lambda: transport) as client:
        with pytest.raises(Transient) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == "refused"


class Streamed(httpx.AsyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    ("encoding", "chunks"),
    [
        ("identity", [b" " * 100_000] * 11),
        ("gzip", [gzip.compress(b" " * 50_000_000)]),
        ("gzip", [b"not gzip"]),
        ("gzip", [gzip.compress(b'{"ok": true}')[:-9]]),
        ("br", [b"not brotli"]),
    ],
)
async def test_answer_too_large_or_with_broken_encoding_is_unreadable(encoding: str, chunks: list[bytes]) -> None:
    stream = Streamed(*chunks)
    async with client_of(
        lambda _: httpx.Response(200, headers={"Content-Encoding": encoding}, stream=stream)
    ) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == "unreadable"
    assert stream.is_closed


async def test_answer_of_largest_size_is_read() -> None:
    body = json.dumps({"ok": "x" * (LARGEST_ANSWER_BYTES - 10)}).encode()
    compressed = Streamed(gzip.compress(body))
    headers = {"Content-Encoding": "gzip"}

    async with client_of(lambda _: httpx.Response(200, headers=headers, stream=compressed)) as client:
        answer = await client.call("POST", "user", PAYLOAD)

    assert len(body) == LARGEST_ANSWER_BYTES
    assert list(answer) == ["ok"]


async def test_empty_gzip_gateway_error_keeps_its_status() -> None:
    headers = {"Content-Encoding": "gzip"}
    async with client_of(lambda _: httpx.Response(502, headers=headers, stream=Streamed())) as client:
        with pytest.raises(Transient) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == 502


class Lane(httpx.AsyncBaseTransport):
    """A transport that records its calls and answers each after its release."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.releases: list[asyncio.Event] = []
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        release = asyncio.Event()
        self.releases.append(release)
        self.calls.append(json.loads(parse_qs(request.content.decode())["json"][0])["id"])
        await release.wait()
        return httpx.Response(200, json={"ok": True})

    async def aclose(self) -> None:
        self.is_closed = True


class Lanes:
    """Creates transports and records them."""

    def __init__(self) -> None:
        self.opened: list[Lane] = []

    def __call__(self) -> Lane:
        self.opened.append(Lane())
        return self.opened[-1]

    def order(self) -> list[list[str]]:
        return [lane.calls for lane in self.opened]


async def ready() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_callers_beyond_the_lanes_wait_in_order() -> None:
    lanes = Lanes()
    client = SailthruClient(CREDENTIALS, lanes=2, transport=lanes)

    calls = [asyncio.create_task(client.call("POST", "user", {"id": name})) for name in "abcd"]
    await ready()
    at_first = [list(lane) for lane in lanes.order()]
    lanes.opened[1].releases[0].set()
    await ready()
    lanes.opened[1].releases[1].set()
    await ready()
    lanes.opened[0].releases[0].set()
    lanes.opened[1].releases[2].set()
    await asyncio.gather(*calls)
    await client.aclose()

    assert at_first == [["a"], ["b"]]
    assert lanes.order() == [["a"], ["b", "c", "d"]]
    assert [lane.is_closed for lane in lanes.opened] == [True, True]


async def test_most_recently_used_lane_is_used_first() -> None:
    """Few connections stay open, and the others time out."""
    lanes = Lanes()
    client = SailthruClient(CREDENTIALS, transport=lanes)
    calls = [asyncio.create_task(client.call("POST", "user", {"id": name})) for name in "ab"]
    await ready()
    for lane in lanes.opened:
        lane.releases[0].set()
        await ready()
    await asyncio.gather(*calls)

    third = asyncio.create_task(client.call("POST", "user", {"id": "c"}))
    await ready()
    lanes.opened[1].releases[1].set()
    await third

    assert lanes.order() == [["a"], ["b", "c"]]


async def test_cancelled_call_frees_its_lane_and_drops_its_transport() -> None:
    lanes = Lanes()
    client = SailthruClient(CREDENTIALS, lanes=1, transport=lanes)
    first, waiting, third = [asyncio.create_task(client.call("POST", "user", {"id": name})) for name in "abc"]
    await ready()

    waiting.cancel()
    first.cancel()
    await ready()
    lanes.opened[1].releases[0].set()

    assert await third == {"ok": True}
    assert lanes.order() == [["a"], ["c"]]
    assert [lane.is_closed for lane in lanes.opened] == [True, False]


async def test_closed_client_finishes_calls_in_flight_and_starts_none() -> None:
    lanes = Lanes()
    client = SailthruClient(CREDENTIALS, transport=lanes)
    call = asyncio.create_task(client.call("POST", "user", {"id": "a"}))
    await ready()

    await client.aclose()
    lanes.opened[0].releases[0].set()

    assert await call == {"ok": True}
    assert lanes.opened[0].is_closed
    with pytest.raises(RuntimeError, match="closed"):
        await client.call("POST", "user", {"id": "b"})


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (servers.hang, "timeout"),
        (servers.drip, "timeout"),
        (servers.reset, "reset"),
        (servers.hang_up, "reset"),
        (servers.half_head, "reset"),
        (servers.half_answer, "reset"),
        (servers.gibberish, "reset"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_broken_answer_leaves_outcome_unknown(behaviour: servers.Behaviour, code: str) -> None:
    async with servers.serving(behaviour) as url, at(url, SHORT) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == code


async def test_dripping_answer_ends_at_timeout() -> None:
    loop = asyncio.get_running_loop()
    async with servers.serving(servers.drip) as url, at(url, SHORT) as client:
        begun = loop.time()
        with pytest.raises(OutcomeUnknown):
            await client.call("POST", "user", PAYLOAD)

    assert loop.time() - begun < 5


async def test_closed_port_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with at(f"http://127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(Transient) as caught:
                await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == "refused"


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "unknown_host"),
        (ssl.SSLCertVerificationError("self-signed"), "no_tls"),
        (TimeoutError("timed out"), "unreachable"),
        (ConnectionRefusedError("refused"), "refused"),
        (OSError("no route"), "refused"),
    ],
)
async def test_connect_error_is_classified_by_its_cause(cause: OSError, code: str) -> None:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = cause

    async with raising(error) as client:
        with pytest.raises(NotSent) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == code


@pytest.mark.parametrize(("behaviour", "code"), [(servers.not_tls, "no_tls"), (servers.silent, "unreachable")])
async def test_failed_tls_handshake_is_not_sent(behaviour: servers.Behaviour, code: str) -> None:
    async with servers.serving(behaviour) as url, at(url.replace("http:", "https:"), SHORT) as client:
        with pytest.raises(Transient) as caught:
            await client.call("POST", "user", PAYLOAD)

    assert caught.value.code == code


async def test_call_cancelled_during_tls_handshake_closes_connection() -> None:
    greeted, hung_up = asyncio.Event(), asyncio.Event()

    async def never_greet_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        greeted.set()
        await reader.read()
        hung_up.set()

    async with servers.serving(never_greet_back) as url, at(url.replace("http:", "https:")) as client:
        call = asyncio.create_task(client.call("POST", "user", PAYLOAD))
        await greeted.wait()
        call.cancel()

        await asyncio.wait_for(hung_up.wait(), timeout=5)

    assert call.cancelled()


async def test_connection_is_reused() -> None:
    connections: list[int] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await servers.answer_all(reader, writer)

    async with servers.serving(behaviour) as url, at(url) as client:
        for _ in range(3):
            await client.call("POST", "user", PAYLOAD)

    assert len(connections) == 1


async def test_only_lane_works_after_cancelled_call() -> None:
    arrived = asyncio.Event()

    async def hang_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if arrived.is_set():
            await servers.answer_all(reader, writer)
        await servers.read_request(reader)
        arrived.set()
        await asyncio.Event().wait()

    async with servers.serving(hang_once) as url, at(url, lanes=1) as client:
        cut_off = asyncio.create_task(client.call("POST", "user", PAYLOAD))
        await arrived.wait()
        cut_off.cancel()

        answer = await client.call("POST", "user", PAYLOAD)

    assert answer == {"ok": True}
    assert cut_off.cancelled()


async def test_neither_address_nor_signature_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async with servers.serving(servers.answer_all) as url, at(url) as client:
        await client.call("GET", "user", PAYLOAD)

    assert ADDRESS not in caplog.text
    assert "ada%40" not in caplog.text
    assert "sig=" not in caplog.text


def test_lanes_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make(**_: object) -> ssl.SSLContext:
        made.append(ssl.create_default_context())
        return made[-1]

    monkeypatch.setattr("httpx.create_ssl_context", make)

    open_lane = SailthruClient(CREDENTIALS)._open_lane

    assert open_lane() is not open_lane()
    assert len(made) == 1
