"""Interprets answers of Lytics' API: a document, or an error whose type says what to do next. No I/O.

https://www.contentstack.com/docs/developers/apis/lytics-api/v2
https://www.contentstack.com/docs/lytics/access-tokens
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from app.domain.errors import AppError, CredentialsRefused, LimitReached, Permanent, Transient
from app.domain.unreachable import Unreachable
from app.lytics.wire import parse_json

TRIES = 3
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=10)
_A_DAY = timedelta(days=1)

_TOKENS = "under Account > Security > Access Tokens"
_REFUSED_CREDENTIALS = {
    "expired_token": f"The Lytics API token has expired: make a new one in Lytics {_TOKENS} and set it as"
    " LYTICS_API_TOKEN.",
    "not_authorized": f"Lytics does not know the API token: compare LYTICS_API_TOKEN with the tokens in Lytics"
    f" {_TOKENS}.",
    "forbidden": "The Lytics API token may not read this, or this machine's IP address is not allowed: check the"
    f" token's roles in Lytics {_TOKENS}, and the account's list of allowed IP addresses.",
}
_CHECK_NETWORK = "check LYTICS_BASE_URL and this machine's network: name server, firewall, proxy."
_ERROR_STATUS = re.compile("[45][0-9]{2}")
_LATER = "try again in a minute"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer.

    Args:
        document: the JSON of its body.
        answered_at: aware, by Lytics' clock; None if the answer has no `Date`.
    """

    document: Any
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed try.

    Args:
        retry_after: the wait that Lytics asks for, if any.
    """

    error: AppError
    retry_after: timedelta | None = None


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, not_found: AppError
) -> Answer | Failure:
    """Return the document of an answer, or its failure.

    v1 may answer 200 with an error status in the body. That status counts.

    Args:
        headers: must ignore case, as `httpx.Headers` does.
        now: our clock, used if the answer has no `Date`.
        not_found: the error for a 404.
    """
    answered_at = _parse_date(headers.get("Date"))
    document: Any = None
    try:
        document = parse_json(body)
    except ValueError:
        if status == HTTPStatus.OK:
            return Failure(unreadable())
    if status == HTTPStatus.NOT_FOUND and body and not _is_lytics_error(document):
        # Another server answered in place of the API.
        return Failure(unreadable())
    if status == HTTPStatus.OK:
        status = _status_in_body(document)
    if status == HTTPStatus.OK:
        return Answer(document, answered_at)
    retry_after = _retry_after(headers.get("Retry-After"), answered_at or now)
    resets_at = None if retry_after is None else now + retry_after
    return Failure(_refusal(status, document, resets_at, not_found), retry_after)


def wait_before_next_try(tried: int, failure: Failure, *, draw: float) -> timedelta | None:
    """Return how long to wait before the next try; None to give up.

    A `Transient` or `LimitReached` failure has three tries in total. The wait starts at one second and doubles, minus
    up to a quarter at random. `Retry-After` can extend it to ten seconds; a longer one ends the tries.

    Args:
        tried: the number of tries so far, including the failed one; 1 or more.
        draw: a random number, 0 to 1.
    """
    if tried >= TRIES or not isinstance(failure.error, Transient | LimitReached):
        return None
    requested = failure.retry_after or timedelta(0)
    if requested > LONGEST_WAIT:
        return None
    return max(FIRST_WAIT * (1 << (tried - 1)) * (1 - draw / 4), requested)


def timed_out(timeout: timedelta) -> Transient:
    seconds = f"{timeout.total_seconds():g}"
    return Transient(
        "timeout", f"Lytics did not answer within {seconds} seconds: {_LATER}. If it lasts, {_CHECK_NETWORK}"
    )


def unreachable(why: Unreachable) -> Transient:
    return Transient(why.value, f"The connection to Lytics could not be made, or broke: {_CHECK_NETWORK}")


def unreadable() -> Transient:
    return Transient(
        "unreadable",
        f"Lytics' answer is not the JSON that it should be: {_LATER}. If it lasts, check LYTICS_BASE_URL and any proxy"
        " on the way.",
    )


def _refusal(status: int, document: object, resets_at: datetime | None, not_found: AppError) -> AppError:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        code = _refusal_code(status, document)
        return CredentialsRefused(code, _REFUSED_CREDENTIALS[code])
    if status == HTTPStatus.NOT_FOUND:
        return not_found
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return LimitReached(status, f"Lytics' rate limit is used up: {_LATER}.", resets_at=resets_at)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Permanent(
            status, f"Lytics refused the call (HTTP {status}): check LYTICS_BASE_URL. If it is right, report this."
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Transient(
            status,
            f"Lytics' answer was a redirect (HTTP {status}). It is not followed, because the token could leak: set"
            " LYTICS_BASE_URL to the API's own address, https://api.lytics.io.",
        )
    return Transient(status, f"Lytics could not answer (HTTP {status}): {_LATER}. If it lasts, ask Lytics' support.")


def _is_lytics_error(document: object) -> bool:
    return isinstance(document, dict) and not {"errors", "message"}.isdisjoint(document)


def _refusal_code(status: int, document: object) -> str:
    """Return the code of the refusal. Only the message distinguishes an expired token from a wrong one."""
    if status == HTTPStatus.FORBIDDEN:
        return "forbidden"
    message = document.get("message") if isinstance(document, dict) else None
    is_expired = isinstance(message, str) and message.strip().lower() == "expired token"
    return "expired_token" if is_expired else "not_authorized"


def _status_in_body(document: object) -> int:
    """Return the error status in the body, a number or text; 200 if there is none."""
    status = str(document.get("status")) if isinstance(document, dict) else ""
    return int(status) if _ERROR_STATUS.fullmatch(status) else HTTPStatus.OK


def _parse_date(date: str | None) -> datetime | None:
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return the wait that `Retry-After` asks for, as seconds or as a date; one day at most.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    text = (text or "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return min(timedelta(seconds=int(text)), _A_DAY)
    until = _parse_date(text)
    return None if until is None else min(max(until - now, timedelta(0)), _A_DAY)
