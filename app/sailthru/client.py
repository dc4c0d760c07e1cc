"""One signed call to Sailthru over HTTP: connections, timeouts, the size of an answer, rate-limit headers."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self, cast

import httpx

from app import __version__
from app.domain.errors import Permanent
from app.sailthru.losses import CUT_OFF, NO_ANSWER, NOT_REACHED, loss_of, not_connected
from app.sailthru.protocol import Credentials, RateLimit, encode, read_answer, read_rate_limit

Method = Literal["GET", "POST"]
"""
DELETE is missing on purpose: people and lists are never deleted.
"""

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

    Each call has a lane of its own: a transport with at most one connection, used last in, first out. One pool shared
    by all calls gets slower the more of them run, since it looks at every connection for each
    (https://github.com/encode/httpx/issues/3215). Transports are used without `httpx.AsyncClient`: it logs the URL,
    which in a GET holds address and signature, and it adds redirects and cookies, which must not happen here.

    Args:
        credentials: of the account.
        lanes: how many calls run at once; further callers wait in the order they came.
        timeout: from the moment a call has its lane until its answer is read, however the answer trickles in.
        transport: makes a lane's transport, in place of real connections.
        on_rate_limit: told method, endpoint and rate limit of every answer that has one, errors too.
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
        self._turn = asyncio.Semaphore(lanes)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._is_closed = False

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        """The answer to one call, for example `call("POST", "user", {"id": ...})`.

        Raises:
            CallFailed: of the kind that `read_answer` found, or `NotSent` where nothing was sent and `OutcomeUnknown`
                where no answer that can be read came back, for a GET as well.
        """
        try:
            fields = encode(self._credentials, payload)
        except ValueError as error:
            raise Permanent("unencodable", str(error)) from None
        async with self._turn:
            if self._is_closed:
                raise RuntimeError("This client is closed.")
            lane = self._idle.pop() if self._idle else self._open_lane()
            is_sound = False
            try:
                answer = await self._exchange(lane, method, endpoint, fields)
                is_sound = True
            finally:
                # A lane whose call was cut off, by cancellation too, may hold half a connection: it is not used again.
                if is_sound and not self._is_closed:
                    self._idle.append(lane)
                else:
                    await lane.aclose()
        resets_at = answer.rate_limit.resets_at if answer.rate_limit else None
        return read_answer(answer.status, answer.body, resets_at=resets_at)

    async def aclose(self) -> None:
        """Closes the connections; calls still under way finish and then close theirs."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Closes the connections."""
        await self.aclose()

    async def _exchange(
        self, lane: httpx.AsyncBaseTransport, method: Method, endpoint: str, fields: Mapping[str, str]
    ) -> "_Answer":
        departure = _Departure()
        request = self._request(method, endpoint, fields, departure)
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
            loss = loss_of(error)
        except TimeoutError:
            loss = NO_ANSWER if departure.may_have_left else NOT_REACHED
        except OSError as error:
            # httpx lets some TLS errors through as they are.
            loss = CUT_OFF if departure.may_have_left else not_connected(error)
        finally:
            await departure.aclose()
        # Outside of the handlers, so that the error has no cause and no context: those can hold the request, with its
        # signature and address, and the words of some quote what the other end sent.
        raise loss.error(loss.code, loss.text)

    def _request(
        self, method: Method, endpoint: str, fields: Mapping[str, str], departure: "_Departure"
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
                "trace": departure.follow,
            },
        )


class _Answer(NamedTuple):
    status: int
    body: bytes
    rate_limit: RateLimit | None


class _Departure:
    """How far a request got, as httpcore's trace tells: whether any of it may have left, which without a trace is so,
    and the connection that waits for TLS. https://www.encode.io/httpcore/extensions/#trace
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
        """Closes a connection that was cut off before TLS stood: httpcore leaves that one open when it is cancelled."""
        if self._without_tls is not None:
            await self._without_tls.aclose()


async def _read_body(response: httpx.Response) -> bytes:
    """The decompressed body; one that is too large, also after decompression, or in another encoding can't be read."""
    body = bytearray()
    # Not response.aiter_bytes: it unpacks without a bound, and 64 KB of gzip may hold 64 MB.
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            raise httpx.DecodingError("too large")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity" or not body:
        return bytes(body)
    if encoding != "gzip":
        raise httpx.DecodingError("unknown encoding")
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = unpacker.decompress(bytes(body), LARGEST_ANSWER_BYTES)
    except zlib.error:
        raise httpx.DecodingError("not gzip") from None
    if not unpacker.eof:
        raise httpx.DecodingError("cut off or too large")
    return unpacked


def _connections() -> Callable[[], httpx.AsyncBaseTransport]:
    """Makes transports with one connection each that share one TLS context, which is costly to make."""
    tls = httpx.create_ssl_context(trust_env=False)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return lambda: httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)
