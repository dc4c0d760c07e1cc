"""Interprets answers of Sailthru: a result, or an error whose type says what to do next. No I/O.

https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/responses.html
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus

from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, Permanent, Transient, UnknownList
from app.explain.codes import explain

# Our codes for errors that have no number in Sailthru.
USER_NOT_FOUND = "user_not_found"
UNNUMBERED = "unnumbered"

# Sailthru's error numbers that need special treatment. Every other number concerns the record.
_INTERNAL_ERROR = 9
_INVALID_EMAIL = 11
_UNKNOWN_LIST = 15
_LIMIT_REACHED = 43
_OTHER = 99
_CREDENTIALS = frozenset({3, 4, 5})

# A 4xx without an error number comes from a proxy or a firewall, which must not turn all members into dead letters.
# These statuses concern the one call even without an error number.
_ABOUT_THE_RECORD = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.REQUEST_URI_TOO_LONG,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
_ERROR_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def read_answer(status: int, body: bytes, *, resets_at: datetime | None = None) -> dict[str, object]:
    """Return the JSON object of a call that worked; raise the matching `CallFailed` for any other answer.

    Body and status decide together: errors also come with status 200, and number 99 stands for many errors. A missing
    profile is `Permanent` with code `USER_NOT_FOUND`; only its message distinguishes it from other errors 99.

    Args:
        body: the decompressed body.
        resets_at: the end of the rate limit's window, passed on in `LimitReached`.
    """
    answer = _json_object(body)
    number = None if answer is None else _error_number(answer)
    code = status if number is None else number
    _raise_if_not_about_record(status, number, resets_at)
    is_refused = number is not None or status >= HTTPStatus.BAD_REQUEST
    if answer is None or not (answer or is_refused):
        raise Transient("unreadable", f"Sailthru's answer (HTTP {status}) is not the JSON object that it should be.")
    if number is None and status >= HTTPStatus.BAD_REQUEST and status not in _ABOUT_THE_RECORD:
        raise Transient(status, f"The answer (HTTP {status}) carries no Sailthru error, so it came from a proxy.")
    if is_refused:
        raise _refusal(code, status, answer.get("errormsg"))
    return answer


def _raise_if_not_about_record(status: int, number: int | str | None, resets_at: datetime | None) -> None:
    """Raise for a failure that does not depend on the content of the call."""
    code = status if number is None else number
    if number == _LIMIT_REACHED or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise LimitReached(
            _LIMIT_REACHED if number is None else number,
            "Sailthru's rate limit for this minute is used up. The call waits for the next minute.",
            resets_at=resets_at,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Transient(code, f"Sailthru had an internal error (HTTP {status}).")
    if status == HTTPStatus.UNAUTHORIZED or number in _CREDENTIALS:
        # The status explains more than a number that does not concern credentials.
        why = explain(str(code if code in _CREDENTIALS else HTTPStatus.UNAUTHORIZED.value))
        raise CredentialsRefused(code, f"{why.happened} {why.next_step}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise Transient("redirected", f"Sailthru answered with a redirect (HTTP {status}), which is never followed.")


def _refusal(code: int | str, status: int, message: object) -> CallFailed:
    """Return the error of a refused call, without Sailthru's message, because it may quote the address."""
    text = message if isinstance(message, str) else ""
    if code == _INTERNAL_ERROR:
        return Transient(code, "Sailthru had an internal error (9) and probably did not save the call.")
    if code == _UNKNOWN_LIST:
        return UnknownList(code, "Sailthru does not know this list.")
    if code == _OTHER and text.startswith("User not found"):
        return Permanent(USER_NOT_FOUND, "Sailthru has no profile of this member.")
    if code == _OTHER and text.startswith("Invalid email"):
        # Seen for addresses instead of the documented error 11.
        # https://github.com/sailthru/sailthru-php5-client/issues/84
        return Permanent(code, f"Sailthru refused the call (error 99): {explain(str(_INVALID_EMAIL)).happened}")
    return Permanent(code, f"Sailthru refused the call (error {code}, HTTP {status}): {explain(str(code)).happened}")


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _error_number(answer: Mapping[str, object]) -> int | str | None:
    """Return the error number; `UNNUMBERED` if the error has none; None if there is no error."""
    if "error" not in answer:
        return None
    error = answer["error"]
    if isinstance(error, str) and _ERROR_NUMBER.fullmatch(error):
        return int(error)
    return error if isinstance(error, int) and not isinstance(error, bool) else UNNUMBERED
