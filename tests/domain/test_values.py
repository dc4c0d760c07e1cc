"""What becomes of values that no database or call can hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.values import sayable
from tests.factories import export


@pytest.mark.parametrize(
    "value",
    ["Ada", "", "Ádá \U0001f600", "a\tb\n", 0, -7, 2**64, -(10**307), 1.5, -0.0, True, False, [], {}, [1, None, "a"]],
)
def test_what_can_be_said_stays_as_it_is(value: object) -> None:
    assert sayable(value) == value
    assert type(sayable(value)) is type(value)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("A\x00da", "Ada"),
        ("Ada \ud83d", "Ada "),
        ("\ude00\ud83d", None),
        ("\x00", None),
        (float("inf"), None),
        (float("-inf"), None),
        (float("nan"), None),
        (10**308, None),
        (-(10**5000), None),
        (None, None),
        (["A\x00da", float("inf"), ["\ud83d"]], ["Ada", None, [None]]),
        ({"first\x00": {"na\ud83dme": "A\x00da"}, "n": 10**400}, {"first": {"name": "Ada"}, "n": None}),
    ],
    # Python itself refuses to write the largest of them.
    ids=lambda _: "",
)
def test_what_can_not_be_said_is_taken_out(value: object, left: object) -> None:
    """Of a text the character, of anything else the value."""
    assert sayable(value) == left


def test_nothing_lies_deeper_than_32_levels() -> None:
    """Else writing it could take more stack than there is."""
    value: Any = "deep"
    for _ in range(500):
        value = [value]
    kept = sayable(value)

    assert json.dumps(kept) == "[" * 32 + "null" + "]" * 32


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_any_value_can_be_written_and_read_again(value: object) -> None:
    kept = sayable(value)
    text = json.dumps(kept, allow_nan=False, ensure_ascii=False)

    assert json.loads(text.encode()) == kept
    assert "\\u0000" not in text


def test_a_field_of_which_nothing_is_left_is_left_out() -> None:
    """As if Lytics had not sent it: what Sailthru holds of it stays."""
    fields = {"name": "name", "city": "city", "score": "score"}

    assert export(fields=fields).vars_of({"name": "A\x00da", "city": "\ud83d", "score": float("inf")}) == {
        "name": "Ada"
    }
