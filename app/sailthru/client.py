"""One signed call to Sailthru over HTTP: connections, timeouts, size of the answer, rate-limit headers."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, cast

import httpx

from app import __version__
from app.domain.errors import Permanent
from app.sailthru.answers import read_answer
from app.sailthru.failures import CUT_OFF, NO_ANSWER, NOT_REACHED, failure_of, not_connected
from app.sailthru.protocol import Credentials, RateLimit, encode, read_rate_limit

# DELETE is missing on purpose: the service never deletes profiles or lists.
Method = Literal["GET", "POST"]

LONGEST_CONNECT = timedelta(seconds=5)
LARGEST_ANSWER_BYTES = 1_000_000
_GZIP_WINDOW = 31

_HEADERS = MappingProxyType(
    {
        "User-Agent": f"lytics-sailthru/{__version__}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
    }
)


class SailthruClient:
    """The calls of one Sailthru account.

    Each call in flight has its own transport with at most one connection. The most recently used transport is reused
    first. A shared pool would slow down with the number of calls, because it scans every connection for each call
    (https://github.com/encode/httpx/issues/3215). Transports are used without `httpx.AsyncClient`, which would log the
    URL (in a GET it holds address and signature), follow redirects and keep cookies.

    Args:
        lanes: the number of concurrent calls, each on its own transport. Further callers wait in order.
        timeout: of one call, from the start on its transport until its answer is read.
        transport: returns a transport that replaces real connections.
        on_rate_limit: called with method, endpoint and rate limit of each answer that has one, including errors.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        lanes: int = 64,
        timeout: timedelta = timedelta(seconds=15),
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        on_rate_limit: Callable[[Method, str, RateLimit], None] | None = None,
    ) -> None:
        self._credentials = credentials
        self._timeout = timeout
        self._open_lane = transport or _connections()
        self._on_rate_limit = on_rate_limit
        self._free_lanes = asyncio.Semaphore(lanes)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._is_closed = False

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        """Make one call and return its answer, for example of `call("POST", "user", {"id": ...})`.

        Raises:
            CallFailed: see `read_answer`.
            NotSent: nothing was sent.
            OutcomeUnknown: no readable answer came back, for a GET too.
            Permanent: code `unencodable`, if JSON cannot represent a value.
        """
        try:
            fields = encode(self._credentials, payload)
        except ValueError as error:
            raise Permanent("unencodable", str(error)) from None
        async with self._free_lanes:
            if self._is_closed:
                raise RuntimeError("This client is closed.")
            lane = self._idle.pop() if self._idle else self._open_lane()
            is_sound = False
            try:
                answer = await self._exchange(lane, method, endpoint, fields)
                is_sound = True
            finally:
                # A transport whose call was cut off or cancelled may hold half a connection, so it is not used again.
                if is_sound and not self._is_closed:
                    self._idle.append(lane)
                else:
                    await lane.aclose()
        resets_at = answer.rate_limit.resets_at if answer.rate_limit else None
        return read_answer(answer.status, answer.body, resets_at=resets_at)

    async def aclose(self) -> None:
        """Close the idle connections. Calls in flight finish and then close theirs."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _exchange(
        self, lane: httpx.AsyncBaseTransport, method: Method, endpoint: str, fields: Mapping[str, str]
    ) -> "_Answer":
        progress = _Progress()
        request = self._request(method, endpoint, fields, progress)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                response = await lane.handle_async_request(request)
                try:
                    rate_limit = read_rate_limit(response.headers)
                    if rate_limit and self._on_rate_limit:
                        self._on_rate_limit(method, endpoint, rate_limit)
                    return _Answer(response.status_code, await _read_body(response), rate_limit)
                finally:
                    await response.aclose()
        except httpx.RequestError as error:
            failure = failure_of(error)
        except TimeoutError:
            failure = NO_ANSWER if progress.may_have_left else NOT_REACHED
        except OSError as error:
            # httpx does not wrap some TLS errors.
            failure = CUT_OFF if progress.may_have_left else not_connected(error)
        finally:
            await progress.aclose()
        # Raised outside the handlers, so that the error has no cause and no context. Those hold the request with its
        # signature and address, and some quote the server's answer.
        raise failure.error(failure.code, failure.text)

    def _request(
        self, method: Method, endpoint: str, fields: Mapping[str, str], progress: "_Progress"
    ) -> httpx.Request:
        seconds = self._timeout.total_seconds()
        return httpx.Request(
            method,
            f"{self._credentials.base_url.rstrip('/')}/{endpoint}",
            params=fields if method == "GET" else None,
            data=fields if method == "POST" else None,
            headers=_HEADERS,
            extensions={
                "timeout": {
                    "connect": min(LONGEST_CONNECT.total_seconds(), seconds),
                    "read": seconds,
                    "write": seconds,
                    "pool": seconds,
                },
                "trace": progress.follow,
            },
        )


class _Answer(NamedTuple):
    status: int
    body: bytes
    rate_limit: RateLimit | None


class _Progress:
    """Tracks how far a request got.

    https://www.encode.io/httpcore/extensions/#trace

    Attributes:
        may_have_left: False only while the trace shows that the request waits for a connection.
    """

    def __init__(self) -> None:
        self.may_have_left = True
        self._without_tls: Any = None

    async def follow(self, step: str, info: Mapping[str, Any]) -> None:
        match step:
            case "connection.connect_tcp.started":
                self.may_have_left = False
            case "connection.connect_tcp.complete":
                self._without_tls = info["return_value"]
            case "http11.send_request_headers.started":
                self.may_have_left = True
                self._without_tls = None

    async def aclose(self) -> None:
        """Close a connection that was cancelled during its TLS handshake: httpcore leaves it open."""
        if self._without_tls is not None:
            await self._without_tls.aclose()


async def _read_body(response: httpx.Response) -> bytes:
    """Return the decompressed body.

    Raises:
        httpx.DecodingError: the body is too large, compressed or decompressed, or its encoding is not gzip.
    """
    body = bytearray()
    # `response.aiter_bytes` would decompress without a bound, and 64 KB of gzip may hold 64 MB.
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            raise httpx.DecodingError("too large")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity" or not body:
        return bytes(body)
    if encoding != "gzip":
        raise httpx.DecodingError("unknown encoding")
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    try:
        decompressed = decompressor.decompress(bytes(body), LARGEST_ANSWER_BYTES)
    except zlib.error:
        raise httpx.DecodingError("not gzip") from None
    if not decompressor.eof:
        raise httpx.DecodingError("cut off or too large")
    return decompressed


def _connections() -> Callable[[], httpx.AsyncBaseTransport]:
    """Return a factory of transports with one connection each. They share a TLS context, which is slow to create."""
    tls = httpx.create_ssl_context(trust_env=False)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return lambda: httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)
