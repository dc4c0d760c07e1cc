"""References to exports."""

from typing import Any

import pytest

from app.commands.references import choose
from app.domain.errors import ServiceRefused


def export(number: int, audience: str, slug: str, name: str | None, *, account: str = "default") -> dict[str, Any]:
    return {
        "id": number,
        "audience": {"id": audience, "slug": slug, "name": name},
        "list": name and f"Lytics {name}",
        "authorization": account,
    }


EXPORTS = [
    export(1, "0a1b", "spring_buyers", "Spring Buyers"),
    export(2, "7", "seven", "Seven"),
    export(3, "c3d4", "vip", "VIP"),
    export(4, "c3d4", "vip", "VIP", account="shop"),
    export(5, "e5f6", "no_name_yet", None),
    export(7, "4d4d", "1", "Lytics VIP"),
]


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("1", 1),
        ("0a1b", 1),
        ("spring_buyers", 1),
        ("Spring Buyers", 1),
        ("Lytics Spring Buyers", 1),
        ("7", 7),
        ("seven", 2),
        ("no_name_yet", 5),
    ],
)
def test_number_wins_over_exact_name(reference: str, number: int) -> None:
    assert choose(EXPORTS, reference)["id"] == number


@pytest.mark.parametrize("reference", ["vip", "VIP", "c3d4"])
def test_ambiguous_reference_lists_all_matches(reference: str) -> None:
    """One audience may be exported to two accounts."""
    with pytest.raises(ServiceRefused, match="matches several exports") as caught:
        choose(EXPORTS, reference)

    assert caught.value.candidates == ("3  c3d4  vip  VIP  (default)", "4  c3d4  vip  VIP  (shop)")


def test_audience_name_that_is_also_another_list_is_ambiguous() -> None:
    with pytest.raises(ServiceRefused) as caught:
        choose(EXPORTS, "Lytics VIP")

    assert [line[0] for line in caught.value.candidates] == ["3", "4", "7"]


@pytest.mark.parametrize("reference", ["spring buyers", "Spring", "8", "", "None"])
def test_inexact_reference_matches_nothing(reference: str) -> None:
    """All exports are listed. An empty reference does not match an export without a name."""
    with pytest.raises(ServiceRefused, match=f"There is no export {reference}. There are:") as caught:
        choose(EXPORTS, reference)

    assert len(caught.value.candidates) == len(EXPORTS)
    assert caught.value.candidates[4] == "5  e5f6  no_name_yet  (default)"


def test_without_exports_the_command_to_start_one_is_named() -> None:
    with pytest.raises(ServiceRefused, match="`lytics-sailthru export start AUDIENCE`"):
        choose([], "1")
