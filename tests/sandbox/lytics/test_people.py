"""Members of an audience: generated people and added profiles."""

import random
import tracemalloc

import pytest

from app.sandbox.lytics.people import People, address_of, person
from app.sandbox.lytics.webhooks import user_id_of


def addresses(people: People, start: int = 0, size: int = 1000) -> list[object]:
    return [profile.get("email") for profile in people.page(start, size)]


def generated(*numbers: int) -> list[str]:
    return [address_of(number) for number in numbers]


@pytest.fixture
def people() -> People:
    people = People()
    people.generate(10)
    return people


def test_generated_person_is_always_the_same(people: People) -> None:
    """The id equals the id in webhooks for the address."""
    assert people.page(3, 1) == [person(3)]
    assert person(3)["email"] == "person3@example.com"
    assert person(3)["_id"] == user_id_of("person3@example.com")
    assert len({str(person(number)["_id"]) for number in range(500)}) == 500


def test_removal_shifts_later_people(people: People) -> None:
    people.remove(generated(0, 4, 9, 4, 99))

    assert addresses(people) == generated(1, 2, 3, 5, 6, 7, 8)
    assert addresses(people, 2, 3) == generated(3, 5, 6)
    assert addresses(people, 6, 3) == generated(8)
    assert addresses(people, 7, 3) == []
    assert len(people) == 7


def test_people_are_removed_by_id(people: People) -> None:
    people.add([{"_id": 7, "email": "ada@example.com"}, {"email": "ben@example.com"}])
    people.remove([user_id_of("person2@example.com"), "7", user_id_of("ben@example.com"), "unknown", "x@example.com"])

    assert addresses(people) == generated(0, 1, 3, 4, 5, 6, 7, 8, 9)


def test_new_people_come_last(people: People) -> None:
    """Generated people come before added profiles."""
    people.add([{"email": "ada@example.com", "city": "London"}, {"_id": "7"}])
    people.generate(2)
    people.remove(generated(1))

    assert addresses(people) == [*generated(0, *range(2, 12)), "ada@example.com", None]
    assert people.page(11, 9) == [
        {"email": "ada@example.com", "city": "London", "_id": user_id_of("ada@example.com")},
        {"_id": "7"},
    ]
    assert addresses(people, 9, 3) == [*generated(10, 11), "ada@example.com"]


def test_profile_replaces_the_same_person(people: People) -> None:
    """It also replaces a generated person."""
    people.add([{"_id": "7", "email": "ada@example.com"}, {"email": address_of(3), "city": "Rome"}])
    people.add([{"_id": "7", "email": "lovelace@example.com"}])

    assert addresses(people, 8) == [*generated(9), address_of(3), "lovelace@example.com"]
    assert len(people) == 11


def test_profile_needs_id_or_address(people: People) -> None:
    with pytest.raises(ValueError, match="`_id` or an `email`"):
        people.add([{"_id": "7"}, {"city": "Rome"}])

    assert len(people) == 10


def test_pages_together_are_all_people() -> None:
    """Removed people do not matter."""
    dice = random.Random(7)
    people, remaining = People(), list(range(300))
    people.generate(300)
    people.add([{"email": f"x{number}@example.com"} for number in range(5)])
    added = [f"x{number}@example.com" for number in range(5)]
    for _ in range(40):
        gone = dice.sample(remaining, 3)
        remaining = [number for number in remaining if number not in gone]
        people.remove(generated(*gone))
        start, size = dice.randrange(320), dice.randrange(1, 120)

        assert addresses(people, start, size) == [*generated(*remaining), *added][start : start + size]


def test_a_million_generated_people_take_no_memory() -> None:
    tracemalloc.start()
    try:
        people = People()
        people.generate(1_000_000)
        people.remove(generated(*range(0, 1000, 2)))
        page = people.page(999_400, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [profile["email"] for profile in page] == generated(*range(999_900, 1_000_000))
    assert peak < 2_000_000
