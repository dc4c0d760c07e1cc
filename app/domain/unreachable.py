"""Finds out why a connection failed from the client's exception. `app.explain.connection` has the texts."""

import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum


class Unreachable(StrEnum):
    """Why a host was not reached. Nothing was sent in any of these cases."""

    UNKNOWN_HOST = "unknown_host"
    REFUSED = "refused"
    NO_TLS = "no_tls"
    SILENT = "unreachable"


def why_unreachable(error: BaseException) -> Unreachable | None:
    """Return the first reason among an error and its causes; None if there is none.

    Clients wrap the operating system's error several times. If a name has several addresses, they raise a group.
    """
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return Unreachable.UNKNOWN_HOST
            case ssl.SSLError():
                return Unreachable.NO_TLS
            case ConnectionRefusedError():
                return Unreachable.REFUSED
            case TimeoutError():
                return Unreachable.SILENT
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, nearest first, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        cause = current.__cause__ or current.__context__
        if cause is not None:
            waiting.append(cause)
