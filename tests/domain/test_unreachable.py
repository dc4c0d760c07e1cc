"""Why no connection came about, whatever a client wraps around it."""

import socket
import ssl

import pytest

from app.domain.unreachable import Unreachable, why_unreachable, words

HOST, SETTING = "api.example.com:8443", "SAILTHRU_BASE_URL"


def wrapped(error: BaseException) -> Exception:
    """As httpx does it: raised from what httpcore raised from what the system said."""
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
def test_the_reason_is_found_bare_and_wrapped(error: Exception, why: Unreachable | None) -> None:
    assert why_unreachable(error) is why
    assert why_unreachable(wrapped(error)) is why


def test_errors_that_cause_each_other_come_to_an_end() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one

    assert why_unreachable(one) is None


@pytest.mark.parametrize("why", Unreachable)
def test_each_reason_has_words_of_its_own(why: Unreachable) -> None:
    """Two sentences, which name the host and the setting that it comes from."""
    happened, next_step = words(why, HOST, SETTING)

    assert HOST in happened
    assert SETTING in next_step
    assert happened.endswith(".")
    assert next_step.endswith(".")
    assert len({words(each, HOST, SETTING) for each in Unreachable}) == len(Unreachable)
