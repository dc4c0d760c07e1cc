"""
How an audience's list is spelled.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.audience import LONGEST_LIST_NAME, Audience, list_name


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        ("Spring Buyers", "Lytics Spring Buyers"),
        ("  Spring Buyers\n", "Lytics Spring Buyers"),
        ("Over $100", "Lytics Over -100"),
        ("$$", "Lytics --"),
        ("Käufer (früh) / 春", "Lytics Käufer (früh) / 春"),
        ("lytics", "Lytics lytics"),
    ],
)
def test_the_list_is_called_lytics_and_the_audience_name(audience: str, expected: str) -> None:
    """
    As Lytics' own export spells it, with a legal sign for the one that Sailthru refuses.
    """
    assert list_name(audience) == expected


def test_a_long_name_is_cut_without_a_space_at_its_end() -> None:
    """
    The cut may fall right behind a word.
    """
    name = "a" * (LONGEST_LIST_NAME - len("Lytics ") - 1) + " " + "b" * 50

    assert list_name(name) == "Lytics " + "a" * (LONGEST_LIST_NAME - len("Lytics ") - 1)


@given(st.text())
def test_every_name_gives_a_legal_list(name: str) -> None:
    """
    No dollar sign, no space at either end, 120 characters at most; and the same name gives the same list.
    """
    made = list_name(name)

    assert made.startswith("Lytics")
    assert "$" not in made
    assert made == made.strip()
    assert len(made) <= LONGEST_LIST_NAME
    assert made == list_name(name)


def test_an_audience_is_a_value() -> None:
    """
    Two readings of one audience are equal.
    """
    assert Audience("1", "spring", "Spring") == Audience("1", "spring", "Spring")
