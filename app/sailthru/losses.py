"""What it means that a call to Sailthru got no answer: whether it may have been carried out all the same."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import httpx

from app.domain.errors import CallFailed, NotSent, OutcomeUnknown
from app.domain.unreachable import Unreachable, why_unreachable


class Loss(NamedTuple):
    """What it means that httpx gave up: our error, its code and its words."""

    error: type[CallFailed]
    code: str
    text: str


NOT_CONNECTED = Loss(NotSent, "refused", "No connection to Sailthru could be made.")
NOT_REACHED = Loss(NotSent, "unreachable", "Sailthru could not be reached in time; nothing was sent.")
_UNKNOWN_HOST = Loss(NotSent, "unknown_host", "The name of Sailthru's host could not be looked up.")
_NO_TLS = Loss(NotSent, "no_tls", "No secure connection to Sailthru could be made.")
_NOT_SENT = Loss(NotSent, "unreachable", "The call to Sailthru could not be sent.")
NO_ANSWER = Loss(OutcomeUnknown, "timeout", "Sailthru did not answer in time; the call may have been done.")
CUT_OFF = Loss(
    OutcomeUnknown, "reset", "The connection to Sailthru broke before its answer; the call may have been done."
)
_UNREADABLE = Loss(OutcomeUnknown, "unreadable", "Sailthru's answer can't be read; the call may have been done.")

LOSSES: Mapping[type[httpx.RequestError], Loss] = MappingProxyType(
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
"""
Every way in which httpx can give up on a request. A class that is not here counts as its nearest ancestor.
"""


def loss_of(error: httpx.RequestError) -> Loss:
    """The entry of `LOSSES` for an error, or a closer one where no connection could be made."""
    loss = next(LOSSES[ancestor] for ancestor in type(error).__mro__ if ancestor in LOSSES)
    return not_connected(error) if loss is NOT_CONNECTED else loss


def not_connected(error: Exception) -> Loss:
    """Why no connection could be made, as far as the error tells."""
    match why_unreachable(error):
        case Unreachable.UNKNOWN_HOST:
            return _UNKNOWN_HOST
        case Unreachable.NO_TLS:
            return _NO_TLS
        case Unreachable.SILENT:
            return NOT_REACHED
        case _:
            return NOT_CONNECTED
