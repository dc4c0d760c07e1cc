"""What it means, in words, that one of the two ends gave no answer that says what is wrong."""

from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

from app.domain.errors import AppError, CallFailed
from app.domain.unreachable import Unreachable
from app.explain.connection import explain_unreachable

_LATER = "Try again in some minutes; if it lasts, ask its support."


def why_unanswered(error: AppError, *, base_url: str, setting: str, within: timedelta) -> tuple[str, str]:
    """What happened and what to do next, each a sentence.

    Args:
        error: of a call that was neither understood and refused, nor refused for its credentials.
        base_url: where the call went.
        setting: the name of the setting that the base URL comes from.
        within: how long the answer might take.
    """
    host = urlsplit(base_url).netloc
    code = error.code if isinstance(error, CallFailed) else None
    match code:
        case "timeout":
            happened = f"{host} did not answer within {within.total_seconds():g} seconds."
            return happened, f"Check {setting}, and this machine's way out: firewall, proxy."
        case "reset":
            return f"{host} broke the connection before it answered.", f"Check {setting}. {_LATER}"
        case "unreadable" | "redirected" | HTTPStatus.NOT_FOUND:
            return _not_the_api(host, setting)
        case int() if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
            return _not_the_api(host, setting)
    if code in set(Unreachable):
        return explain_unreachable(Unreachable(str(code)), host, setting)
    return str(error), _LATER


def _not_the_api(host: str, setting: str) -> tuple[str, str]:
    return f"What answers at {host} is not the API.", f"Check {setting}, and any proxy on the way."
