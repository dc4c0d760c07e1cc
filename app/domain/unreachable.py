"""Why no connection came about, as far as what a client raised can tell; and what to do about it, in words."""

import socket
import ssl
from collections.abc import Iterator
from enum import StrEnum


class Unreachable(StrEnum):
    """What stood between us and a host. Nothing was sent in any of these cases."""

    UNKNOWN_HOST = "unknown_host"
    REFUSED = "refused"
    NO_TLS = "no_tls"
    SILENT = "unreachable"


def why_unreachable(error: BaseException) -> Unreachable | None:
    """The first reason among an error and what caused it; None where nothing in there is one.

    Clients wrap what the operating system said several times, and in a group where a name has several addresses.
    """
    for one in _causes(error):
        match one:
            case socket.gaierror():
                return Unreachable.UNKNOWN_HOST
            case ssl.SSLError():
                return Unreachable.NO_TLS
            case ConnectionRefusedError():
                return Unreachable.REFUSED
            case TimeoutError():
                return Unreachable.SILENT
    return None


def words(why: Unreachable, host: str, setting: str) -> tuple[str, str]:
    """What happened and what to do next, each a sentence.

    Args:
        host: with its port, if it has one.
        setting: the name of the setting that the host comes from.
    """
    match why:
        case Unreachable.UNKNOWN_HOST:
            return f"The name {host} can't be looked up.", f"Check {setting}, and this machine's name server."
        case Unreachable.REFUSED:
            return f"Nothing takes connections at {host}.", f"Check {setting}, and any firewall on the way."
        case Unreachable.NO_TLS:
            return (
                f"No https that can be trusted is spoken at {host}.",
                f"Check {setting}, and whether something on the way puts its own certificate in place.",
            )
        case Unreachable.SILENT:
            return (
                f"{host} can't be reached.",
                f"Check {setting}, and this machine's way out: firewall, proxy.",
            )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and all behind it, nearest first; each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        cause = one.__cause__ or one.__context__
        if cause is not None:
            waiting.append(cause)
