"""Maps the errors of httpx to ours, by whether the call was sent and whether Sailthru may have carried it out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import httpx

from app.domain.errors import CallFailed, NotSent, OutcomeUnknown
from app.domain.unreachable import Unreachable, why_unreachable


class Failure(NamedTuple):
    """The class, code and text of one of our errors."""

    error: type[CallFailed]
    code: str
    text: str


NOT_CONNECTED = Failure(NotSent, "refused", "No connection to Sailthru could be made.")
NOT_REACHED = Failure(NotSent, "unreachable", "Sailthru could not be reached in time. Nothing was sent.")
_UNKNOWN_HOST = Failure(NotSent, "unknown_host", "The name of Sailthru's host could not be looked up.")
_NO_TLS = Failure(NotSent, "no_tls", "No secure connection to Sailthru could be made.")
_NOT_SENT = Failure(NotSent, "unreachable", "The call to Sailthru could not be sent.")
NO_ANSWER = Failure(
    OutcomeUnknown, "timeout", "Sailthru did not answer in time. It may still have carried out the call."
)
CUT_OFF = Failure(
    OutcomeUnknown,
    "reset",
    "The connection to Sailthru broke before its answer. It may still have carried out the call.",
)
_UNREADABLE = Failure(
    OutcomeUnknown,
    "unreadable",
    "Sailthru's answer cannot be read. It may still have carried out the call.",
)

# All errors that a request can end with in httpx. A class that is missing counts as its nearest ancestor.
FAILURES: Mapping[type[httpx.RequestError], Failure] = MappingProxyType(
    {
        httpx.ConnectError: NOT_CONNECTED,
        httpx.ProxyError: NOT_CONNECTED,
        httpx.ConnectTimeout: NOT_REACHED,
        httpx.PoolTimeout: NOT_REACHED,
        httpx.UnsupportedProtocol: _NOT_SENT,
        httpx.LocalProtocolError: _NOT_SENT,
        httpx.WriteTimeout: NO_ANSWER,
        httpx.ReadTimeout: NO_ANSWER,
        httpx.TimeoutException: NO_ANSWER,
        httpx.WriteError: CUT_OFF,
        httpx.ReadError: CUT_OFF,
        httpx.CloseError: CUT_OFF,
        httpx.NetworkError: CUT_OFF,
        httpx.RemoteProtocolError: CUT_OFF,
        httpx.ProtocolError: _UNREADABLE,
        httpx.DecodingError: _UNREADABLE,
        httpx.TooManyRedirects: _UNREADABLE,
        httpx.TransportError: CUT_OFF,
        httpx.RequestError: CUT_OFF,
    }
)


def failure_of(error: httpx.RequestError) -> Failure:
    """Return the entry of `FAILURES` for an error, or a more specific one if no connection could be made."""
    failure = next(FAILURES[ancestor] for ancestor in type(error).__mro__ if ancestor in FAILURES)
    return not_connected(error) if failure is NOT_CONNECTED else failure


def not_connected(error: Exception) -> Failure:
    """Return why no connection could be made, read from the error and its causes."""
    match why_unreachable(error):
        case Unreachable.UNKNOWN_HOST:
            return _UNKNOWN_HOST
        case Unreachable.NO_TLS:
            return _NO_TLS
        case Unreachable.SILENT:
            return NOT_REACHED
        case _:
            return NOT_CONNECTED
