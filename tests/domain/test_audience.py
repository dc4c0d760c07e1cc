"""How an operator names an audience: id, slug or name."""

import pytest

from app.domain.audience import Audience, choose
from app.domain.errors import AmbiguousAudience, Conflict, NotFound, UnknownAudience

SPRING = Audience("a1", "spring_buyers", "Spring Buyers")
LAPSED = Audience("b2", "lapsed_buyers", "Lapsed Buyers")
AUTUMN = Audience("c3", "autumn", "Autumn Buyers", 7)
# Its slug is the id of another audience, and its name is the slug of another one.
CONFUSING = Audience("d4", "a1", "lapsed_buyers")
CAFE = Audience("e5", "", "Café Visitors")
TWIN, OTHER_TWIN = Audience("f6", "twin", "VIP"), Audience("g7", "twin_1", "VIP")
LOUD, QUIET = Audience("h8", "loud", "FANS"), Audience("i9", "quiet", "fans ")
ALL = [SPRING, LAPSED, AUTUMN, CONFUSING, CAFE, TWIN, OTHER_TWIN, LOUD, QUIET]


def test_equal_audiences_compare_equal() -> None:
    assert Audience("1", "spring", "Spring") == Audience("1", "spring", "Spring")


@pytest.mark.parametrize(
    ("reference", "meant"),
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
def test_audience_is_found_by_id_slug_or_name(reference: str, meant: Audience) -> None:
    """A stricter match wins in any order of the audiences."""
    assert choose(reference, ALL) == meant
    assert choose(reference, reversed(ALL)) == meant


@pytest.mark.parametrize(
    ("reference", "candidates"), [("VIP", [TWIN, OTHER_TWIN]), ("vip", [TWIN, OTHER_TWIN]), ("Fans", [LOUD, QUIET])]
)
def test_name_of_several_audiences_is_refused_with_all_candidates(reference: str, candidates: list[Audience]) -> None:
    with pytest.raises(AmbiguousAudience) as caught:
        choose(reference, ALL)

    assert list(caught.value.candidates) == candidates
    assert isinstance(caught.value, Conflict)
    assert all(audience.id in str(caught.value) for audience in candidates)


@pytest.mark.parametrize(
    ("reference", "nearest"),
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
def test_unknown_audience_error_lists_similar_ones(reference: str, nearest: Audience | None) -> None:
    with pytest.raises(UnknownAudience) as caught:
        choose(reference, ALL)

    assert next(iter(caught.value.candidates), None) == nearest
    assert isinstance(caught.value, NotFound)
    assert "GET /lytics/audiences" in str(caught.value)


def test_at_most_five_similar_audiences_are_listed_each_once() -> None:
    many = [Audience(str(number), f"buyers_{number}", f"Buyers {number}") for number in range(20)]

    with pytest.raises(UnknownAudience) as caught:
        choose("buyers", many)

    assert len(set(caught.value.candidates)) == len(caught.value.candidates) == 5


def test_error_text_names_at_most_ten_candidates() -> None:
    many = [Audience(str(number), "", "VIP") for number in range(12)]

    with pytest.raises(AmbiguousAudience, match=r"\(id 9, slug none\) and 2 more\. Give the id of one\.") as caught:
        choose("VIP", many)

    assert len(caught.value.candidates) == 12
