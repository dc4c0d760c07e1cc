"""Sailthru's protocol, without I/O: sign and encode a call, read an answer into a result or an error.

Transport, parameters and signature:
https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/technical.html
Errors: https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/responses.html
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, Permanent, Transient, UnknownList
from app.explain.codes import explain

DEFAULT_BASE_URL = "https://api.sailthru.com"
USER_NOT_FOUND = "user_not_found"

_INTERNAL_ERROR, _UNKNOWN_LIST, _TOO_MANY_CALLS, _OTHER = 9, 15, 43, 99
_CREDENTIAL_ERRORS = frozenset({3, 4, 5})
_INVALID_EMAIL = 11
# What a gateway or firewall on the way answers for a while must not make everybody a dead letter; these words even so
# speak of the one call.
_ABOUT_THE_RECORD = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUEST_URI_TOO_LONG,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True)
class Credentials:
    """One Sailthru account's key and secret, and where its API answers. Neither shows in a `repr`."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one answer says about the calls of its account, endpoint and method in this calendar minute.

    Args:
        limit: calls allowed in the minute, 1 or more.
        remaining: calls left, 0 to `limit`.
        resets_at: when the next minute begins by Sailthru's clock; whoever waits for it decides how far to believe it.
    """

    limit: int
    remaining: int
    resets_at: datetime


def signature(secret: str, params: object) -> str:
    """The lower-case hex MD5 of the secret and all leaf values of `params`, sorted by code point.

    Names do not count, containers are walked to any depth, equal values are all kept, and values that are not text
    count as Python's `str` writes them.
    """
    text = secret + "".join(sorted(_leaves(params)))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def encode(credentials: Credentials, payload: Mapping[str, object]) -> dict[str, str]:
    """The four form (or query) fields of one call, not yet URL-encoded; the JSON text is the very text that was signed.

    Raises:
        ValueError: the payload can't be said in JSON and UTF-8 (NaN, Infinity, half a surrogate pair). The text does
            not quote it.
    """
    try:
        text = json.dumps(dict(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        fields = {"api_key": credentials.api_key, "format": "json", "json": text}
        return fields | {"sig": signature(credentials.api_secret, fields)}
    except ValueError:
        # Not `from` the cause: a UnicodeEncodeError carries the whole text.
        raise ValueError("The call holds a value that JSON or UTF-8 has no form for, such as NaN.") from None


def read_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """The rate limit as the three `X-Rate-Limit-*` headers tell it, or None where they are missing or make no sense.

    Error answers carry them too. `headers` finds names in any case, as `httpx.Headers` does.
    """
    numbers = []
    for name in ("Limit", "Remaining", "Reset"):
        value = headers.get(f"X-Rate-Limit-{name}", "").strip()
        if not _WHOLE_NUMBER.fullmatch(value):
            return None
        numbers.append(int(value))
    limit, remaining, reset = numbers
    if limit < 1 or remaining > limit:
        return None
    return RateLimit(limit, remaining, datetime.fromtimestamp(reset, UTC))


def read_answer(status: int, body: bytes, *, resets_at: datetime | None = None) -> dict[str, object]:
    """The JSON object of a call that worked; for any other the error whose type says what to do next.

    Judged by body and status together: errors also come with status 200, and their codes overlap. A profile that does
    not exist is `Permanent` with code `USER_NOT_FOUND`, which only its own words tell from other errors 99.

    Args:
        status: of the HTTP answer.
        body: of the HTTP answer, decompressed.
        resets_at: when the rate limit's window ends, handed on in `LimitReached`.
    """
    answer = _json_object(body)
    code = None if answer is None else _error_code(answer)
    if code == _TOO_MANY_CALLS or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise LimitReached(
            _TOO_MANY_CALLS if code is None else code,
            "Sailthru's limit of calls for this minute is used up; waits for the next minute.",
            resets_at=resets_at,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Transient(status if code is None else code, f"Sailthru had an internal error (HTTP {status}).")
    if status == HTTPStatus.UNAUTHORIZED or code in _CREDENTIAL_ERRORS:
        refused = status if code is None else code
        # A number that does not belong to credentials says less than the status.
        why = explain(str(refused if refused in _CREDENTIAL_ERRORS else HTTPStatus.UNAUTHORIZED.value))
        raise CredentialsRefused(refused, f"{why.happened} {why.next_step}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise Transient("redirected", f"Sailthru answered with a redirect (HTTP {status}), which is never followed.")
    is_refused = code is not None or status >= HTTPStatus.BAD_REQUEST
    if answer is None or not (answer or is_refused):
        raise Transient("unreadable", f"Sailthru's answer (HTTP {status}) is not the JSON object that it should be.")
    if code is None and status >= HTTPStatus.BAD_REQUEST and status not in _ABOUT_THE_RECORD:
        raise Transient(status, f"An answer without an error of Sailthru's (HTTP {status}) came from somebody between.")
    if is_refused:
        raise _refusal(status if code is None else code, status, answer.get("errormsg"))
    return answer


def _refusal(code: int | str, status: int, errormsg: object) -> CallFailed:
    """The error of a call that was understood and refused, in our own words: Sailthru's quote the address."""
    words = errormsg if isinstance(errormsg, str) else ""
    if code == _INTERNAL_ERROR:
        return Transient(code, "Sailthru had an internal error (9) and probably did not save the call.")
    if code == _UNKNOWN_LIST:
        return UnknownList(code, "Sailthru does not know this list.")
    if code == _OTHER and words.startswith("User not found"):
        return Permanent(USER_NOT_FOUND, "Sailthru has no profile of this person.")
    if code == _OTHER and words.startswith("Invalid email"):
        # Seen for addresses instead of the documented code 11.
        # https://github.com/sailthru/sailthru-php5-client/issues/84
        return Permanent(code, f"Sailthru refused the call (error 99): {explain(str(_INVALID_EMAIL)).happened}")
    return Permanent(code, f"Sailthru refused the call (error {code}, HTTP {status}): {explain(str(code)).happened}")


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _error_code(answer: Mapping[str, object]) -> int | str | None:
    """The error number of an answer, "unnumbered" for an error that has none, None where there is no error."""
    if "error" not in answer:
        return None
    error = answer["error"]
    if isinstance(error, str) and _WHOLE_NUMBER.fullmatch(error):
        return int(error)
    return error if isinstance(error, int) and not isinstance(error, bool) else "unnumbered"


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _leaves(item)
    else:
        yield str(value)
