"""
Lytics' API for reading: an audience by id or slug.

https://www.contentstack.com/docs/developers/apis/lytics-api/v2
"""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError
from pydantic_core import from_json

from app import __version__
from app.domain.audience import Audience
from app.domain.errors import AppError, CredentialsRefused, LimitReached, NotFound, Permanent, Transient
from app.lytics.wire import SegmentAnswer

DEFAULT_BASE_URL = "https://api.lytics.io"
LONGEST_CONNECT = timedelta(seconds=5)
LARGEST_ANSWER_BYTES = 8_000_000
LONGEST_ID = 255

_REFUSED_CREDENTIALS = {
    "expired_token": "The Lytics API token has expired: make a new one under Account > Security > Access Tokens.",
    "not_authorized": "Lytics does not know the API token: compare it with Account > Security > Access Tokens.",
    "forbidden": "The Lytics API token may not read audiences, or this machine's network address is not allowed: check"
    " the token's roles under Account > Security > Access Tokens.",
}


class LyticsClient:
    """
    The calls of one Lytics account; all of them only read, so each is safe to repeat.

    Args:
        token: an API token, sent raw in `Authorization`, never in a URL.
            https://www.contentstack.com/docs/lytics/access-tokens
        base_url: where the API answers.
        timeout: for a whole call.
        transport: in place of real connections.
    """

    def __init__(
        self,
        token: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        timeout: timedelta = timedelta(seconds=15),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
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
        """
        The audience as Lytics names it now.

        Raises:
            NotFound: there is none of this id or slug in the token's account, it is deleted, or it has no name.
            CredentialsRefused: code `expired_token`, `not_authorized` or `forbidden`.
            LimitReached, Transient: worth another try later.
            Permanent: Lytics does not take the question as it is.
        """
        # Dots alone would leave the folder: httpx resolves them as a browser does.
        if len(id_or_slug) > LONGEST_ID or not id_or_slug.isprintable() or not id_or_slug.strip("."):
            raise NotFound("This can't be the id or slug of an audience in Lytics.")
        body = await self._get(f"/v2/segment/{quote(id_or_slug, safe='')}")
        try:
            segment = SegmentAnswer.model_validate_json(body).data
        except ValidationError:
            raise _unreadable() from None
        if segment.deleted is True:
            raise NotFound("This audience is deleted in Lytics.")
        if not segment.name or not segment.name.strip():
            raise NotFound("This audience has no name in Lytics, so its list can't be named after it.")
        return Audience(id=segment.id, slug=segment.slug_name or "", name=segment.name)

    async def aclose(self) -> None:
        """
        Closes the connections.
        """
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """
        The client itself.
        """
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """
        Closes the connections.
        """
        await self.aclose()

    async def _get(self, path: str) -> bytes:
        """
        The body of an answer 200; any other answer, or none, becomes the error that says what to do next.
        """
        try:
            async with asyncio.timeout(self._timeout.total_seconds()), self._http.stream("GET", path) as response:
                status, body = response.status_code, await _read_body(response)
        except TimeoutError:
            failure = Transient("timeout", "Lytics did not answer in time.")
        except (httpx.RequestError, OSError):
            failure = Transient("unreachable", "The connection to Lytics could not be made, or broke.")
        else:
            if status == HTTPStatus.OK:
                return body
            raise _refusal(status, body)
        # Outside of the handlers, so that the error has no context: httpx's errors hold the request with its token.
        raise failure


def _refusal(status: int, body: bytes) -> AppError:
    """
    The error of any answer but 200.
    """
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        code = _why_refused(status, body)
        return CredentialsRefused(code, _REFUSED_CREDENTIALS[code])
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("Lytics knows no such audience in the account of the API token.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return LimitReached(status, "Lytics asks for a pause: too many calls.")
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Permanent(status, f"Lytics refused the call (HTTP {status}).")
    return Transient(status, f"Lytics could not answer (HTTP {status}).")


def _why_refused(status: int, body: bytes) -> str:
    """
    Which of the refusals it is; only the words of the answer tell an expired token from a wrong one.
    https://www.contentstack.com/docs/lytics/access-tokens
    """
    if status == HTTPStatus.FORBIDDEN:
        return "forbidden"
    try:
        answer = from_json(body)
    except ValueError:
        return "not_authorized"
    message = answer.get("message") if isinstance(answer, dict) else None
    is_expired = isinstance(message, str) and message.strip().lower() == "expired token"
    return "expired_token" if is_expired else "not_authorized"


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            raise _unreadable()
    return bytes(body)


def _unreadable() -> Transient:
    return Transient("unreadable", "Lytics' answer is not the JSON that it should be.")
