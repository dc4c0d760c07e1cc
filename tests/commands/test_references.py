"""Which export somebody means."""

from typing import Any

import pytest

from app.commands.references import choose
from app.domain.errors import ServiceSaidNo


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
def test_the_number_goes_first_then_any_exact_name(reference: str, number: int) -> None:
    assert choose(EXPORTS, reference)["id"] == number


@pytest.mark.parametrize("reference", ["vip", "VIP", "c3d4"])
def test_what_may_mean_several_is_refused_with_all_of_them(reference: str) -> None:
    """One audience may go to two accounts."""
    with pytest.raises(ServiceSaidNo, match="may mean several exports") as caught:
        choose(EXPORTS, reference)

    assert caught.value.candidates == ("3  c3d4  vip  VIP  (default)", "4  c3d4  vip  VIP  (shop)")


def test_a_name_that_is_also_somebody_elses_list_is_refused() -> None:
    with pytest.raises(ServiceSaidNo) as caught:
        choose(EXPORTS, "Lytics VIP")

    assert [line[0] for line in caught.value.candidates] == ["3", "4", "7"]


@pytest.mark.parametrize("reference", ["spring buyers", "Spring", "8", "", "None"])
def test_what_is_not_exact_is_nobody(reference: str) -> None:
    """All there are are named; an export without a name is not meant by an empty one."""
    with pytest.raises(ServiceSaidNo, match=f"There is no export {reference}. There are:") as caught:
        choose(EXPORTS, reference)

    assert len(caught.value.candidates) == len(EXPORTS)
    assert caught.value.candidates[4] == "5  e5f6  no_name_yet  (default)"


def test_where_there_is_none_it_is_said_how_to_start_one() -> None:
    with pytest.raises(ServiceSaidNo, match="export start AUDIENCE"):
        choose([], "1")
