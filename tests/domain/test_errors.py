"""The tree of errors: whoever catches one catches what belongs to it."""

import inspect
import re

import pytest

from app.domain import errors
from app.domain.errors import AppError, CallFailed, LimitReached, MalformedWebhook, NotSent, RejectedWebhook, Transient
from app.domain.rejection import EXPLANATIONS, Reason
from tests.factories import NOON

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def drawn() -> dict[str, str]:
    """Each error of the drawing, with the one that it hangs from."""
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
def test_every_error_says_in_its_own_words_what_happened(kind: type[AppError]) -> None:
    """Its docstring is what whoever catches it reads."""
    assert (vars(kind).get("__doc__") or "").strip()


def test_the_drawing_shows_every_error_where_it_hangs() -> None:
    """The tree at the top of the file is what people go by."""
    assert drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in ALL}


def test_a_rejected_webhook_has_a_word_for_metrics_and_advice_for_people() -> None:
    """The word is fixed; the text says what happened, more exactly where it can, and what to do."""
    said = EXPLANATIONS[Reason.NOT_JSON]
    error, exact = MalformedWebhook(Reason.NOT_JSON), MalformedWebhook(Reason.NOT_JSON, "The 7th byte is odd.")

    assert isinstance(error, RejectedWebhook)
    assert (error.reason, str(error)) == ("not_json", f"{said.happened} {said.next_step}")
    assert str(exact) == f"The 7th byte is odd. {said.next_step}"


def test_a_failed_call_keeps_the_other_ends_number() -> None:
    """What was never sent is a kind of what may work later."""
    error = NotSent("refused", "Sailthru could not be reached.")

    assert isinstance(error, Transient)
    assert (error.code, str(error)) == ("refused", "Sailthru could not be reached.")


def test_a_reached_limit_tells_when_it_ends_where_that_is_known() -> None:
    """Otherwise the waiting is up to us."""
    known, unknown = LimitReached(43, "Too many.", resets_at=NOON), LimitReached(429, "Too many.")

    assert isinstance(known, CallFailed)
    assert (known.resets_at, unknown.resets_at) == (NOON, None)
