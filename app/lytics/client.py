"""Reads audiences, profile fields, and the members of an audience page by page from Lytics' API.

https://www.contentstack.com/docs/developers/apis/lytics-api/v2
Scans: https://www.contentstack.com/docs/developers/apis/lytics-api/v1/segment
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Self
from urllib.parse import quote

import httpx

from app import __version__
from app.domain.audience import Audience
from app.domain.errors import NotFound, Permanent, ScanExpired
from app.domain.field import ProfileField
from app.domain.scan import ScanPage
from app.domain.unreachable import Unreachable, why_unreachable
from app.lytics import protocol, reading
from app.lytics.protocol import Answer, Failure

DEFAULT_BASE_URL = "https://api.lytics.io"
LONGEST_CONNECT = timedelta(seconds=5)
LARGEST_ANSWER_BYTES = 8_000_000
LONGEST_ID = 255
PAGE_SIZE = 100

_NO_SUCH_AUDIENCE = "Lytics knows no such audience in the account of the API token: check its id or slug in Lytics."
_NOT_THE_API = (
    "LYTICS_BASE_URL is not the address of Lytics' API (HTTP 404): set LYTICS_BASE_URL to https://api.lytics.io."
)


def _now() -> datetime:
    return datetime.now(UTC)


class LyticsClient:
    """The calls of one Lytics account. They only read, so each is safe to repeat.

    A call has three tries if the failure may be temporary: 429, 5xx, a timeout, a broken connection, an answer that is
    not JSON. See `protocol.wait_before_next_try`.

    Args:
        token: an API token, sent raw in `Authorization`, never in a URL.
            https://www.contentstack.com/docs/lytics/access-tokens
        timeout: of each try, until its answer is read.
        transport: replaces real connections.
        on_end: called with the result of each try: `ok`, an HTTP status, or our code such as `expired_token`.
        sleep: waits this many seconds.
        draw: returns a random number, 0 to 1.
        clock: returns the time, aware.
    """

    def __init__(
        self,
        token: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        timeout: timedelta = timedelta(seconds=15),
        transport: httpx.AsyncBaseTransport | None = None,
        on_end: Callable[[str], None] = lambda _answer: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._timeout = timeout
        self._on_end = on_end
        self._sleep = sleep
        self._draw = draw
        self._clock = clock
        self._is_stopping = False
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={
                "Authorization": token,
                "Accept": "application/json",
                "User-Agent": f"lytics-sailthru/{__version__}",
            },
            timeout=httpx.Timeout(timeout.total_seconds(), connect=min(timeout, LONGEST_CONNECT).total_seconds()),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    async def audience(self, id_or_slug: str) -> Audience:
        """Return the audience with its current name.

        Raises:
            NotFound: the token's account has no such audience, or the audience is deleted or has no name.
            CredentialsRefused: code `expired_token`, `not_authorized` or `forbidden`.
            LimitReached, Transient: a later try may succeed.
            Permanent: Lytics refuses the call as it is.
        """
        path = f"/v2/segment/{_in_path(id_or_slug)}"
        return reading.audience_in((await self._get(path, not_found=NotFound(_NO_SUCH_AUDIENCE))).document)

    async def audiences(self) -> list[Audience]:
        """Return all audiences of people that can be exported, with their sizes, in Lytics' order.

        Raises:
            CredentialsRefused, LimitReached, Transient, Permanent: see `audience`.
        """
        query = {"table": "user", "kind": "segment", "sizes": "true"}
        return reading.audiences_in((await self._get("/v2/segment", query)).document)

    async def fields(self) -> list[ProfileField]:
        """Return the fields that profiles can have, in Lytics' order.

        Raises:
            CredentialsRefused, LimitReached, Transient, Permanent: see `audience`.
        """
        return reading.fields_in((await self._get("/v2/schema/user/field", {"filter": "all"})).document)

    async def scan(
        self, audience_id: str, *, fields: Iterable[str], start: str | None, limit: int = PAGE_SIZE
    ) -> ScanPage:
        """Return one page of the audience's members, with these fields and `_id`.

        Args:
            audience_id: id or slug.
            start: `next` of the previous page; None for the first page. Lytics forgets it after a while.
            limit: members per page; Lytics returns at most 100.

        Raises:
            NotFound: the audience does not exist or is deleted.
            ScanExpired: the audience exists, but Lytics has forgotten `start`.
            CredentialsRefused, LimitReached, Transient, Permanent: see `audience`.
        """
        names = dict.fromkeys([*fields, "_id"])
        query = {"fields": ",".join(names), "limit": str(limit)} | ({"start": start} if start else {})
        path = f"/api/segment/{_in_path(audience_id)}/scan"
        try:
            answer = await self._get(path, query, not_found=NotFound(_NO_SUCH_AUDIENCE))
        except (NotFound, Permanent) as error:
            if not start or not _may_mean_expired(error):
                raise
        else:
            return reading.page_in(answer.document, answer.answered_at)
        # Lytics does not document its answer to an unknown `start`, so check whether the audience still exists.
        await self.audience(audience_id)
        raise ScanExpired(
            "scan_expired", "Lytics has forgotten where the scan stopped: begin it again from the first page."
        )

    def stop(self) -> None:
        """Stop retrying, so that a shutdown waits for at most one try."""
        self._is_stopping = True

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _get(
        self, path: str, params: Mapping[str, str] | None = None, *, not_found: NotFound | None = None
    ) -> Answer:
        tries = 0
        while True:
            outcome = await self._try(path, params, not_found)
            if isinstance(outcome, Answer):
                self._on_end("ok")
                return outcome
            self._on_end(str(getattr(outcome.error, "code", "not_found")))
            tries += 1
            wait = protocol.wait_before_next_try(tries, outcome, draw=self._draw())
            if wait is not None and not self._is_stopping:
                await self._sleep(wait.total_seconds())
            if wait is None or self._is_stopping:
                raise outcome.error

    async def _try(self, path: str, params: Mapping[str, str] | None, not_found: NotFound | None) -> Answer | Failure:
        # `_get` raises the error outside these handlers, so that it has no context: httpx's errors hold the request
        # with its token.
        try:
            async with (
                asyncio.timeout(self._timeout.total_seconds()),
                self._http.stream("GET", path, params=params) as response,
            ):
                body = await _read_body(response)
        except httpx.ConnectTimeout:
            return Failure(protocol.unreachable(Unreachable.SILENT))
        except (TimeoutError, httpx.TimeoutException):
            return Failure(protocol.timed_out(self._timeout))
        except (httpx.RequestError, OSError) as error:
            return Failure(protocol.unreachable(why_unreachable(error) or Unreachable.SILENT))
        if body is None:
            return Failure(protocol.unreadable())
        return protocol.read_answer(
            response.status_code,
            response.headers,
            body,
            now=self._clock(),
            not_found=not_found or Permanent(HTTPStatus.NOT_FOUND, _NOT_THE_API),
        )


def _in_path(id_or_slug: str) -> str:
    """Return an audience's id or slug as one segment of a path.

    Raises:
        NotFound: the text is neither an id nor a slug.
    """
    # Dots alone would change the path, because httpx resolves them.
    if len(id_or_slug) > LONGEST_ID or not id_or_slug.isprintable() or not id_or_slug.strip("."):
        raise NotFound("An audience in Lytics cannot have this id or slug.")
    return quote(id_or_slug, safe="")


def _may_mean_expired(error: NotFound | Permanent) -> bool:
    return isinstance(error, NotFound) or error.code == HTTPStatus.BAD_REQUEST


async def _read_body(response: httpx.Response) -> bytes | None:
    """Return the body; None if it exceeds `LARGEST_ANSWER_BYTES`."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            return None
    return bytes(body)
