"""Values are made safe for every database and every call."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.values import storable
from tests.factories import export


@pytest.mark.parametrize(
    "value",
    ["Ada", "", "Ádá \U0001f600", "a\tb\n", 0, -7, 2**64, -(10**307), 1.5, -0.0, True, False, [], {}, [1, None, "a"]],
)
def test_storable_value_stays(value: object) -> None:
    assert storable(value) == value
    assert type(storable(value)) is type(value)


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
    # Python refuses to write the largest of them.
    ids=lambda _: "",
)
def test_unstorable_part_is_removed(value: object, left: object) -> None:
    """A text loses the character; any other value becomes None."""
    assert storable(value) == left


def test_value_is_cut_at_32_levels() -> None:
    """Writing a deeper value could overflow the stack."""
    value: Any = "deep"
    for _ in range(500):
        value = [value]
    kept = storable(value)

    assert json.dumps(kept) == "[" * 32 + "null" + "]" * 32


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_any_value_survives_json(value: object) -> None:
    kept = storable(value)
    text = json.dumps(kept, allow_nan=False, ensure_ascii=False)

    assert json.loads(text.encode()) == kept
    assert "\\u0000" not in text


def test_field_without_storable_value_is_left_out() -> None:
    """Sailthru keeps its value."""
    fields = {"name": "name", "city": "city", "score": "score"}

    assert export(fields=fields).vars_of({"name": "A\x00da", "city": "\ud83d", "score": float("inf")}) == {
        "name": "Ada"
    }
