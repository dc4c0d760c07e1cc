"""The explanations of all codes."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain import errors
from app.domain.errors import CallFailed
from app.domain.rejection import Reason
from app.explain.codes import EXPLANATIONS, explain

ROOT = Path(__file__).parents[2]
NUMBERS = (1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 32, 33, 34, 35, 36, 37, 41, 42, 43, 99)
STATUSES = (400, 401, 403, 404, 405, 409, 413, 429, 500, 502, 503, 504)
WORDS = ("ok", "retry_window_over", "over_budget", "user_not_found", "redirected", "unnumbered", "unencodable")
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, CallFailed)}


def words_in(source: str) -> Iterator[str]:
    """Yield the codes that a source file passes to errors and to `Failure`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            index = 1 if node.func.id == "Failure" else 0
            is_failure = node.func.id in {*KINDS, "Failure"}
            if is_failure and len(node.args) > index:
                code = node.args[index]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    yield code.value


RAISED = sorted({word for path in (ROOT / "app").rglob("*.py") for word in words_in(path.read_text())})


@pytest.mark.parametrize("code", [*map(str, (*NUMBERS, *STATUSES)), *WORDS, *RAISED])
def test_every_code_has_an_explanation(code: str) -> None:
    explanation = EXPLANATIONS[code]

    assert explanation == explain(code)
    assert explanation.happened.endswith(".")
    assert explanation.next_step.endswith(".")
    assert explanation.to_whom


def test_no_rejection_reason_is_also_a_code_of_a_call() -> None:
    assert set(Reason) & {*map(str, (*NUMBERS, *STATUSES)), *WORDS, *RAISED} == set()


def test_search_finds_the_codes_that_are_raised() -> None:
    assert {"timeout", "reset", "refused", "unreachable", "unreadable", "redirected", "unencodable"} <= set(RAISED)


def test_every_number_of_the_reference_is_explained() -> None:
    path = ROOT.parent / "shared/reference/fixtures/sailthru/error_codes.json"
    if not path.exists():
        pytest.skip("the reference is not next to this checkout")
    numbers = [entry["code"] for entry in json.loads(path.read_text())["codes"]]

    assert {str(number) for number in numbers} <= set(EXPLANATIONS)


@pytest.mark.parametrize("code", ["0", "98", "418", "599", "100000", "-1", "", "no such word", "٣"])
def test_unknown_code_gets_a_general_explanation(code: str) -> None:
    explanation = explain(code)

    assert code not in EXPLANATIONS
    assert explanation.happened
    assert explanation.next_step


def test_invalid_address_is_corrected_in_lytics() -> None:
    explanation = explain("11")

    assert explanation.to_whom == "this member"
    assert "in Lytics" in explanation.next_step
