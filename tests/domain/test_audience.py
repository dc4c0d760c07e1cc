"""Which audience is meant, and how its list is spelled."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.audience import LONGEST_LIST_NAME, Audience, choose, list_name, list_name_notes
from app.domain.errors import AmbiguousAudience, Conflict, NotFound, UnknownAudience

SPRING = Audience("a1", "spring_buyers", "Spring Buyers")
LAPSED = Audience("b2", "lapsed_buyers", "Lapsed Buyers")
AUTUMN = Audience("c3", "autumn", "Autumn Buyers", 7)
# Named as others are identified, which nobody should do.
CONFUSING = Audience("d4", "a1", "lapsed_buyers")
CAFE = Audience("e5", "", "Café Visitors")
TWIN, OTHER_TWIN = Audience("f6", "twin", "VIP"), Audience("g7", "twin_1", "VIP")
LOUD, QUIET = Audience("h8", "loud", "FANS"), Audience("i9", "quiet", "fans ")
ALL = [SPRING, LAPSED, AUTUMN, CONFUSING, CAFE, TWIN, OTHER_TWIN, LOUD, QUIET]


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
def test_the_list_is_called_lytics_and_the_audience_name(audience: str, expected: str) -> None:
    """As Lytics' own export spells it, with a legal sign for the one that Sailthru refuses."""
    assert list_name(audience) == expected


def test_a_long_name_is_cut_without_a_space_at_its_end() -> None:
    """The cut may fall right behind a word."""
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
def test_what_was_changed_in_a_name_is_told(audience: str, notes: list[str]) -> None:
    assert list(list_name_notes(audience)) == notes


@given(st.text(st.characters(codec=None)).filter(str.strip))
def test_a_name_without_notes_is_kept_as_it_is(name: str) -> None:
    """And one with notes is not."""
    assert (list_name_notes(name) == ()) is (list_name(name) == f"Lytics {name}")


@given(st.text(st.characters(codec=None)))
def test_every_name_gives_a_legal_list(name: str) -> None:
    """No dollar sign, no control characters, no space at either end, 120 characters at most; and the same name gives
    the same list.
    """
    made = list_name(name)

    assert made.startswith("Lytics")
    assert "$" not in made
    assert not any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} for sign in made)
    assert made == made.strip()
    assert len(made) <= LONGEST_LIST_NAME
    assert made == list_name(name)


def test_an_audience_is_a_value() -> None:
    """Two readings of one audience are equal."""
    assert Audience("1", "spring", "Spring") == Audience("1", "spring", "Spring")


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("a1", SPRING),
        ("lapsed_buyers", LAPSED),
        ("spring_buyers", SPRING),
        ("Spring Buyers", SPRING),
        ("Autumn Buyers", AUTUMN),
        ("  spring BUYERS ", SPRING),
        ("CAFE\u0301 visitors", CAFE),
        ("twin", TWIN),
        ("FANS", LOUD),
        ("fans ", QUIET),
    ],
)
def test_an_audience_is_meant_by_id_slug_or_name(wanted: str, meant: Audience) -> None:
    """Whatever fits more strictly goes before what fits loosely, whichever comes first in the list."""
    assert choose(wanted, ALL) == meant
    assert choose(wanted, reversed(ALL)) == meant


@pytest.mark.parametrize(
    ("wanted", "candidates"), [("VIP", [TWIN, OTHER_TWIN]), ("vip", [TWIN, OTHER_TWIN]), ("Fans", [LOUD, QUIET])]
)
def test_a_name_that_several_have_is_nobodys(wanted: str, candidates: list[Audience]) -> None:
    """The error names them all, so that an id can be chosen."""
    with pytest.raises(AmbiguousAudience) as caught:
        choose(wanted, ALL)

    assert list(caught.value.candidates) == candidates
    assert isinstance(caught.value, Conflict)
    assert all(one.id in str(caught.value) for one in candidates)


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        ("Sprng Buyer", SPRING),
        ("SPRING_BUYER", SPRING),
        ("lapsed-buyers", LAPSED),
        ("autum", AUTUMN),
        ("cafe visitor", CAFE),
        ("zzz", None),
        ("", None),
        ("  ", None),
    ],
)
def test_the_nearest_audiences_are_told_where_none_is_meant(wanted: str, nearest: Audience | None) -> None:
    with pytest.raises(UnknownAudience) as caught:
        choose(wanted, ALL)

    assert next(iter(caught.value.candidates), None) == nearest
    assert isinstance(caught.value, NotFound)
    assert "GET /lytics/audiences" in str(caught.value)


def test_five_near_audiences_are_enough() -> None:
    """Each stands there once, though slug and name are both near."""
    many = [Audience(str(number), f"buyers_{number}", f"Buyers {number}") for number in range(20)]

    with pytest.raises(UnknownAudience) as caught:
        choose("buyers", many)

    assert len(set(caught.value.candidates)) == len(caught.value.candidates) == 5


def test_not_more_than_ten_are_named_in_words() -> None:
    many = [Audience(str(number), "", "VIP") for number in range(12)]

    with pytest.raises(AmbiguousAudience, match=r"\(id 9, slug none\) and 2 more\. Give the id of one\.") as caught:
        choose("VIP", many)

    assert len(caught.value.candidates) == 12
