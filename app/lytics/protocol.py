"""What an answer of Lytics' API means: a document, or the error that says what to do next and when. No I/O.

https://www.contentstack.com/docs/developers/apis/lytics-api/v2, https://www.contentstack.com/docs/lytics/access-tokens
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
    "not_authorized": f"Lytics does not know the API token: compare LYTICS_API_TOKEN with those in Lytics {_TOKENS}.",
    "forbidden": "The Lytics API token may not read this, or this machine's network address is not allowed: check the"
    f" token's roles in Lytics {_TOKENS}, and the account's list of allowed addresses.",
}
_WAY_OUT = "check LYTICS_BASE_URL and this machine's way out: name server, firewall, proxy."
_ERROR_STATUS = re.compile("[45][0-9]{2}")
_LATER = "try again in a minute"


@dataclass(frozen=True, slots=True)
class Answer:
    """What Lytics answered.

    Args:
        document: the JSON of its body.
        answered_at: by Lytics' clock, aware; None where it does not say.
    """

    document: Any
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A try that did not work.

    Args:
        retry_after: how long Lytics asks to wait, where it asks.
    """

    error: AppError
    retry_after: timedelta | None = None


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, not_found: AppError
) -> Answer | Failure:
    """What an answer means. An error in the body counts also where the HTTP status is 200, as v1 may have it.

    Args:
        headers: by any case, as httpx has them.
        now: the clock, where the answer does not tell Lytics' own.
        not_found: what 404 means.
    """
    answered_at = _moment(headers.get("Date"))
    document: Any = None
    try:
        document = parse_json(body)
    except ValueError:
        if status == HTTPStatus.OK:
            return Failure(unreadable())
    if status == HTTPStatus.NOT_FOUND and body and not _is_told_by_lytics(document):
        # The page of something that stands there in place of the API.
        return Failure(unreadable())
    if status == HTTPStatus.OK:
        status = _status_within(document)
    if status == HTTPStatus.OK:
        return Answer(document, answered_at)
    retry_after = _retry_after(headers.get("Retry-After"), answered_at or now)
    resets_at = None if retry_after is None else now + retry_after
    return Failure(_refusal(status, document, resets_at, not_found), retry_after)


def wait_before_next_try(tried: int, failure: Failure, *, draw: float) -> timedelta | None:
    """How long to wait before the same is asked again, or None to give up.

    Doubles from a second, less up to a quarter at random; longer where Lytics asks for it with `Retry-After`, but what
    takes more than ten seconds is not waited for. Only what may pass by itself is tried again, three times in all.

    Args:
        tried: so far, the failed try included; 1 or more.
        draw: the dice, 0 to 1.
    """
    if tried >= TRIES or not isinstance(failure.error, Transient | LimitReached):
        return None
    asked = failure.retry_after or timedelta(0)
    if asked > LONGEST_WAIT:
        return None
    return max(FIRST_WAIT * (1 << (tried - 1)) * (1 - draw / 4), asked)


def timed_out(timeout: timedelta) -> Transient:
    """No answer came in time."""
    seconds = f"{timeout.total_seconds():g}"
    return Transient("timeout", f"Lytics did not answer within {seconds} seconds: {_LATER}; if it lasts, {_WAY_OUT}")


def unreachable(why: Unreachable) -> Transient:
    """There was no connection, or it broke."""
    return Transient(why.value, f"The connection to Lytics could not be made, or broke: {_WAY_OUT}")


def unreadable() -> Transient:
    """What came is not Lytics' JSON."""
    return Transient(
        "unreadable",
        f"Lytics' answer is not the JSON that it should be: {_LATER}; if it lasts, check LYTICS_BASE_URL and any proxy"
        " on the way.",
    )


def _refusal(status: int, document: object, resets_at: datetime | None, not_found: AppError) -> AppError:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        code = _why_refused(status, document)
        return CredentialsRefused(code, _REFUSED_CREDENTIALS[code])
    if status == HTTPStatus.NOT_FOUND:
        return not_found
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return LimitReached(status, f"Lytics asks for a pause, too many calls: {_LATER}.", resets_at=resets_at)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Permanent(
            status, f"Lytics refused the call (HTTP {status}): check LYTICS_BASE_URL; if it is right, report this."
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Transient(
            status,
            f"Lytics' answer was a redirect (HTTP {status}), which is never followed, since it could lead the token"
            " elsewhere: set LYTICS_BASE_URL to the API's own address, https://api.lytics.io.",
        )
    return Transient(status, f"Lytics could not answer (HTTP {status}): {_LATER}; if it lasts, ask Lytics' support.")


def _is_told_by_lytics(document: object) -> bool:
    return isinstance(document, dict) and not {"errors", "message"}.isdisjoint(document)


def _why_refused(status: int, document: object) -> str:
    """Which of the refusals it is; only the words of the answer tell an expired token from a wrong one."""
    if status == HTTPStatus.FORBIDDEN:
        return "forbidden"
    message = document.get("message") if isinstance(document, dict) else None
    is_expired = isinstance(message, str) and message.strip().lower() == "expired token"
    return "expired_token" if is_expired else "not_authorized"


def _status_within(document: object) -> int:
    """The error status that a body tells, as a number or as text; else 200."""
    confirmed = str(document.get("status")) if isinstance(document, dict) else ""
    return int(confirmed) if _ERROR_STATUS.fullmatch(confirmed) else HTTPStatus.OK


def _moment(date: str | None) -> datetime | None:
    """The time in a header, aware; None where there is none that can be read."""
    if date is None:
        return None
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _retry_after(text: str | None, now: datetime) -> timedelta | None:
    """How long `Retry-After` asks to wait: a number of seconds, or until a time; never more than a day.
    https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
    """
    text = (text or "").strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return min(timedelta(seconds=int(text)), _A_DAY)
    until = _moment(text)
    return None if until is None else min(max(until - now, timedelta(0)), _A_DAY)
