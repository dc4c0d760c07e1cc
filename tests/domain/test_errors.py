"""The tree of errors matches the classes, and errors carry their details."""

import inspect
import re

import pytest

from app.domain import errors
from app.domain.errors import AppError, CallFailed, LimitReached, MalformedWebhook, NotSent, RejectedWebhook, Transient
from app.domain.rejection import Reason
from tests.factories import NOON

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def drawn() -> dict[str, str]:
    """Return each error in the drawn tree with its parent."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    [│ ]*(?:[├└]── )?([A-Z]\w+)(?=  |$)", line)
        if found is not None:
            depth = found.start(1) // 4 - 1
            above = [*above[:depth], found[1]]
            parents[found[1]] = above[depth - 1] if depth else "Exception"
    return parents


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_its_own_docstring(kind: type[AppError]) -> None:
    assert (vars(kind).get("__doc__") or "").strip()


def test_drawn_tree_matches_the_classes() -> None:
    assert drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in ALL}


def test_rejected_webhook_has_a_reason_and_what_happened() -> None:
    error = MalformedWebhook(Reason.NOT_JSON, "Byte 7 is odd.")

    assert isinstance(error, RejectedWebhook)
    assert (error.reason, error.happened, str(error)) == ("not_json", "Byte 7 is odd.", "Byte 7 is odd.")
    assert str(MalformedWebhook(Reason.NOT_JSON)) == "not_json"


def test_failed_call_has_a_code() -> None:
    error = NotSent("refused", "Sailthru could not be reached.")

    assert isinstance(error, Transient)
    assert (error.code, str(error)) == ("refused", "Sailthru could not be reached.")


def test_reached_limit_has_the_time_of_its_reset_if_known() -> None:
    known, unknown = LimitReached(43, "Too many.", resets_at=NOON), LimitReached(429, "Too many.")

    assert isinstance(known, CallFailed)
    assert (known.resets_at, unknown.resets_at) == (NOON, None)
