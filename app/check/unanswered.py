"""Explains failed calls to Sailthru or Lytics that got no usable answer."""

from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

from app.domain.errors import AppError, CallFailed
from app.domain.unreachable import Unreachable
from app.explain.connection import explain_unreachable

_LATER = "Try again in a few minutes. If it still fails, ask the vendor's support."


def explain_failure(error: AppError, *, base_url: str, setting: str, timeout: timedelta) -> tuple[str, str]:
    """Return the explanation and the next step, one sentence each.

    Args:
        error: the failure of a call. The vendor itself did not refuse the call.
        setting: the name of the setting that holds `base_url`.
        timeout: the timeout of the call.
    """
    host = urlsplit(base_url).netloc
    code = error.code if isinstance(error, CallFailed) else None
    match code:
        case "timeout":
            happened = f"{host} did not answer within {timeout.total_seconds():g} seconds."
            return happened, f"Check {setting}, and this machine's firewall and proxy."
        case "reset":
            return f"{host} closed the connection before it answered.", f"Check {setting}. {_LATER}"
        case "unreadable" | "redirected" | HTTPStatus.NOT_FOUND:
            return _not_the_api(host, setting)
        case int() if HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
            return _not_the_api(host, setting)
    if code in set(Unreachable):
        return explain_unreachable(Unreachable(str(code)), host, setting)
    return str(error), _LATER


def _not_the_api(host: str, setting: str) -> tuple[str, str]:
    return f"The answer from {host} is not from the API.", f"Check {setting}, and any proxy on the way."
