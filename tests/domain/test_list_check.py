"""The list check: accepted changes, and changes that stop an export."""

import pytest

from app.domain.list_check import Judgement, KnownList, ListChange, ListSeen, judge, reason


def known(*, confirmed: int = 1000, in_doubt: int = 0, others: int | None = 0, others_in_doubt: int = 0) -> KnownList:
    return KnownList("our-id", confirmed, in_doubt, others, others_in_doubt)


@pytest.mark.parametrize(
    ("state", "seen", "found"),
    [
        pytest.param(known(), ListSeen("our-id", 1000), Judgement(None, 0), id="as it was"),
        pytest.param(known(), ListSeen("our-id", 1010), Judgement(None, 10, 10), id="ten more are followed"),
        pytest.param(known(), ListSeen("our-id", 1011), Judgement(ListChange.COUNT, 0, 11), id="eleven more are not"),
        pytest.param(known(), ListSeen("our-id", 900), Judgement(ListChange.COUNT, 0, -100), id="a tenth is gone"),
        pytest.param(known(), ListSeen("our-id", 0), Judgement(ListChange.COUNT, 0, -1000), id="emptied"),
        pytest.param(
            known(confirmed=100_000), ListSeen("our-id", 100_900), Judgement(None, 900, 900), id="within 1 % of many"
        ),
        pytest.param(
            known(confirmed=100_000),
            ListSeen("our-id", 101_100),
            Judgement(ListChange.COUNT, 0, 1100),
            id="over 1 % of many",
        ),
        pytest.param(known(others=500), ListSeen("our-id", 1500), Judgement(None, 500), id="others may be on it"),
        pytest.param(known(others=None), ListSeen("our-id", 1500), Judgement(None, 500), id="the first check"),
        pytest.param(known(in_doubt=200), ListSeen("our-id", 800), Judgement(None, 0, -200), id="unknown members"),
        pytest.param(
            known(others=None, in_doubt=30),
            ListSeen("our-id", 1013),
            Judgement(None, 13, others_in_doubt=30),
            id="an uncertain first check",
        ),
        pytest.param(
            known(others=13, others_in_doubt=30),
            ListSeen("our-id", 1000),
            Judgement(None, 0, -13),
            id="certain later",
        ),
        pytest.param(
            known(others=13, others_in_doubt=30),
            ListSeen("our-id", 1054),
            Judgement(ListChange.COUNT, 13, 41, 30),
            id="more than was uncertain",
        ),
        pytest.param(
            known(others=13, others_in_doubt=5, in_doubt=10),
            ListSeen("our-id", 1000),
            Judgement(None, 9, -13, 1),
            id="two uncertain checks",
        ),
        pytest.param(
            known(others=13, others_in_doubt=1, in_doubt=2),
            ListSeen("our-id", 1000),
            Judgement(None, 0, -13, 2),
            id="followed and uncertain",
        ),
        pytest.param(
            known(), ListSeen("other", 1000), Judgement(ListChange.REPLACED, 0), id="another list of the name"
        ),
        pytest.param(known(), ListSeen(None, 1000), Judgement(None, 0), id="no id is reported"),
        pytest.param(KnownList(None, 5, 0, 0), ListSeen("any", 5), Judgement(None, 0), id="our id is unknown"),
        pytest.param(known(others=7), ListSeen("our-id", None), Judgement(None, 7), id="no count is reported"),
        pytest.param(known(others=7), None, Judgement(ListChange.GONE, 7), id="gone"),
    ],
)
def test_judgement_of_a_check(state: KnownList, seen: ListSeen | None, found: Judgement) -> None:
    assert judge(state, seen) == found


@pytest.mark.parametrize("change", ListChange)
def test_reason_names_the_list_and_the_call_that_resumes(change: ListChange) -> None:
    said = reason(change, "Lytics Spring Buyers", 7, jump=-1200)

    assert "'Lytics Spring Buyers'" in said
    assert "Changes are kept meanwhile." in said
    assert said.endswith('PATCH /exports/7 {"state": "running"}.')
    assert ("-1,200 people" in said) == (change is ListChange.COUNT)
