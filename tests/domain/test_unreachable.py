"""Failed connections are classified, even if a client wraps the error."""

import socket
import ssl

import pytest

from app.domain.unreachable import Unreachable, why_unreachable


def wrapped(error: BaseException) -> Exception:
    """Wrap an error like httpx: its error is raised from httpcore's, which is raised from the system's."""
    inner, outer = RuntimeError("All connection attempts failed"), RuntimeError("of the client")
    inner.__cause__ = error
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Unreachable.UNKNOWN_HOST),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Unreachable.UNKNOWN_HOST),
        (ssl.SSLCertVerificationError("self-signed certificate"), Unreachable.NO_TLS),
        (ssl.SSLEOFError("EOF"), Unreachable.NO_TLS),
        (ConnectionRefusedError("refused"), Unreachable.REFUSED),
        (TimeoutError("timed out"), Unreachable.SILENT),
        (ExceptionGroup("each address", [OSError("no route"), ConnectionRefusedError("refused")]), Unreachable.REFUSED),
        (OSError("something else"), None),
        (ValueError("something else"), None),
    ],
)
def test_reason_is_found_bare_and_wrapped(error: Exception, why: Unreachable | None) -> None:
    assert why_unreachable(error) is why
    assert why_unreachable(wrapped(error)) is why


def test_errors_that_cause_each_other_are_visited_once() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one

    assert why_unreachable(one) is None
