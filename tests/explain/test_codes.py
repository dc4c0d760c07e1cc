"""Every code that a person can meet has words of its own."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain import errors, rejection
from app.domain.errors import CallFailed
from app.domain.rejection import Reason
from app.explain.codes import EXPLANATIONS, explain

ROOT = Path(__file__).parents[2]
NUMBERS = (1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 32, 33, 34, 35, 36, 37, 41, 42, 43, 99)
STATUSES = (400, 401, 403, 404, 405, 409, 413, 429, 500, 502, 503, 504)
WORDS = ("ok", "retry_window_over", "over_budget", "user_not_found", "redirected", "unnumbered", "unencodable")
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, CallFailed)}


def words_in(source: str) -> Iterator[str]:
    """The fixed words that stand as a code in what is raised, and in what a lost call means."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = 1 if node.func.id == "Failure" else 0
            is_failure = node.func.id in {*KINDS, "Failure"}
            if is_failure and len(node.args) > place:
                code = node.args[place]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield code.value


RAISED = sorted({word for path in (ROOT / "app").rglob("*.py") for word in words_in(path.read_text())})


@pytest.mark.parametrize("code", [*map(str, (*NUMBERS, *STATUSES)), *WORDS, *RAISED])
def test_every_code_has_words_of_its_own(code: str) -> None:
    """What happened, to whom, what to do: three sentences, none of them empty."""
    said = EXPLANATIONS[code]

    assert said == explain(code)
    assert said.happened.endswith(".")
    assert said.next_step.endswith(".")
    assert said.to_whom


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_a_rejection_has_words_of_its_own(reason: Reason) -> None:
    """The type checker lets no other word through where something is rejected."""
    said = rejection.EXPLANATIONS[reason]

    assert said == explain(reason)
    assert said.happened.endswith(".")
    assert said.next_step.endswith(".")
    assert said.to_whom


@pytest.mark.parametrize(
    ("reason", "box"),
    [
        (Reason.NO_TOKEN, "Webhook Request Headers"),
        (Reason.NOT_JSON, "Lytics Template"),
        (Reason.UNKNOWN_SHAPE, "Audience Triggers Webhook"),
        (Reason.NO_SEGMENT_EVENTS, "Export Fields"),
        (Reason.UNREADABLE_TIME, "Lytics Template"),
        (Reason.NO_USABLE_ADDRESS, "Export Fields"),
        (Reason.TOO_LARGE, "Batch Size"),
    ],
)
def test_a_rejection_names_the_box_in_lytics(reason: Reason, box: str) -> None:
    """As Lytics' job calls it."""
    assert box in explain(reason).next_step


def test_no_reason_is_also_a_code_of_a_call() -> None:
    """One word must not mean two things."""
    assert set(Reason) & {*map(str, (*NUMBERS, *STATUSES)), *WORDS, *RAISED} == set()


def test_the_words_that_are_raised_are_found() -> None:
    assert {"timeout", "reset", "refused", "unreachable", "unreadable", "redirected", "unencodable"} <= set(RAISED)


def test_no_number_of_the_reference_is_left_out() -> None:
    path = ROOT.parent / "shared/reference/fixtures/sailthru/error_codes.json"
    if not path.exists():
        pytest.skip("the reference is not beside this checkout")
    numbers = [one["code"] for one in json.loads(path.read_text())["codes"]]

    assert {str(number) for number in numbers} <= set(EXPLANATIONS)


@pytest.mark.parametrize("code", ["0", "98", "418", "599", "100000", "-1", "", "no such word", "٣"])
def test_a_code_nobody_knows_is_explained_all_the_same(code: str) -> None:
    said = explain(code)

    assert code not in EXPLANATIONS
    assert said.happened
    assert said.next_step


def test_a_bad_address_is_to_be_mended_where_it_comes_from() -> None:
    said = explain("11")

    assert said.to_whom == "this person"
    assert "in Lytics" in said.next_step
