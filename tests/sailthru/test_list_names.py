"""Names of Sailthru lists."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sailthru.list_names import LONGEST_LIST_NAME, list_name, list_name_notes


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        ("Spring Buyers", "Lytics Spring Buyers"),
        ("  Spring Buyers\n", "Lytics Spring Buyers"),
        ("Over $100", "Lytics Over -100"),
        ("$$", "Lytics --"),
        ("Käufer (früh) / 春", "Lytics Käufer (früh) / 春"),
        ("lytics", "Lytics lytics"),
        ("Spring\tBuyers\x00", "Lytics Spring Buyers"),
        ("Spring\r\nBuyers", "Lytics Spring  Buyers"),
        ("Half \ud83d", "Lytics Half"),
        (
            "Family \U0001f468\u200d\U0001f469\u200d\U0001f466",
            "Lytics Family \U0001f468\u200d\U0001f469\u200d\U0001f466",
        ),
    ],
)
def test_list_name_is_lytics_and_the_audience_name_in_legal_characters(audience: str, expected: str) -> None:
    assert list_name(audience) == expected


def test_long_name_is_cut_without_a_space_at_its_end() -> None:
    name = "a" * (LONGEST_LIST_NAME - len("Lytics ") - 1) + " " + "b" * 50

    assert list_name(name) == "Lytics " + "a" * (LONGEST_LIST_NAME - len("Lytics ") - 1)


@pytest.mark.parametrize(
    ("audience", "notes"),
    [
        ("Spring Buyers", []),
        ("a" * 113, []),
        ("Over $100", ["`$` is not allowed in a Sailthru list name and became `-`"]),
        ("  Spring Buyers\n", ["spaces at the ends were dropped"]),
        ("Spring\tBuyers", ["control characters became spaces"]),
        ("\x00Spring", ["spaces at the ends were dropped", "control characters became spaces"]),
        ("a" * 114, ["cut at 120 characters"]),
        ("a" * 113 + "$", ["cut at 120 characters"]),
        (
            " $" + "a" * 200,
            [
                "spaces at the ends were dropped",
                "`$` is not allowed in a Sailthru list name and became `-`",
                "cut at 120 characters",
            ],
        ),
    ],
)
def test_notes_name_each_change_of_the_name(audience: str, notes: list[str]) -> None:
    assert list(list_name_notes(audience)) == notes


@given(st.text(st.characters(codec=None)).filter(str.strip))
def test_name_changes_exactly_if_it_has_notes(name: str) -> None:
    assert (list_name_notes(name) == ()) is (list_name(name) == f"Lytics {name}")


@given(st.text(st.characters(codec=None)))
def test_every_audience_name_gives_a_legal_list_name(name: str) -> None:
    made = list_name(name)

    assert made.startswith("Lytics")
    assert "$" not in made
    assert not any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} for sign in made)
    assert made == made.strip()
    assert len(made) <= LONGEST_LIST_NAME
    assert made == list_name(name)
