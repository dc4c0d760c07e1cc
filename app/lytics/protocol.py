"""What an answer of Lytics' API means: a document, or the error whose type says what to do next. No I/O.

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
        answered_at: in Lytics' clock, aware; None if the answer has no `Date`.
    """

    document: Any
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed try.

    Args:
        retry_after: how long Lytics asks to wait; None if it does not ask.
    """

    error: AppError
    retry_after: timedelta | None = None


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, not_found: AppError
) -> Answer | Failure:
    """Return what an answer means. v1 may report an error in the body of a 200, which counts as that error.

    Args:
        headers: must ignore case, as httpx's do.
        now: our clock, used if the answer has no `Date`.
        not_found: the error that a 404 means for this call.
    """
    answered_at = _moment(headers.get("Date"))
    document: Any = None
    try:
        document = parse_json(body)
    except ValueError:
        if status == HTTPStatus.OK:
            return Failure(unreadable())
    if status == HTTPStatus.NOT_FOUND and body and not _is_error_of_lytics(document):
        # A page of another server in place of the API.
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

    Only `Transient` and `LimitReached` are tried again, three times in all. The wait doubles from one second, less up
    to a quarter at random. It is longer if `Retry-After` asks for it; more than ten seconds means giving up.

    Args:
        tried: tries so far, the failed one included; 1 or more.
        draw: a random number, 0 to 1.
    """
    if tried >= TRIES or not isinstance(failure.error, Transient | LimitReached):
        return None
    asked = failure.retry_after or timedelta(0)
    if asked > LONGEST_WAIT:
        return None
    return max(FIRST_WAIT * (1 << (tried - 1)) * (1 - draw / 4), asked)


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
        code = _why_refused(status, document)
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


def _is_error_of_lytics(document: object) -> bool:
    return isinstance(document, dict) and not {"errors", "message"}.isdisjoint(document)


def _why_refused(status: int, document: object) -> str:
    """Return the code of the refusal. Only the message tells an expired token from a wrong one."""
    if status == HTTPStatus.FORBIDDEN:
        return "forbidden"
    message = document.get("message") if isinstance(document, dict) else None
    is_expired = isinstance(message, str) and message.strip().lower() == "expired token"
    return "expired_token" if is_expired else "not_authorized"


def _status_in_body(document: object) -> int:
    """Return the error status in the body, a number or text; 200 if there is none."""
    status = str(document.get("status")) if isinstance(document, dict) else ""
    return int(status) if _ERROR_STATUS.fullmatch(status) else HTTPStatus.OK


def _moment(date: str | None) -> datetime | None:
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return how long `Retry-After` asks to wait, in seconds or until a time; a day at most.

    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    text = (text or "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return min(timedelta(seconds=int(text)), _A_DAY)
    until = _moment(text)
    return None if until is None else min(max(until - now, timedelta(0)), _A_DAY)
