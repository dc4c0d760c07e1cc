"""Who is in an audience: people made up by number when they are looked at, and others put in by hand."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice

from app.sandbox.answers import JSONObject
from app.sandbox.webhooks import user_id_of

_ADDRESS = re.compile(r"person(0|[1-9][0-9]{0,8})@example\.com")
_FIRST_NAMES = ("Ada", "Ben", "Cora", "Dan", "Eve", "Finn", "Gia", "Hal", "Ida", "Jon", "Kim", "Leo")
_CITIES = ("Leeds", "Lyon", "Linz", "Lima", "Lagos")
_FIRST_VISIT = datetime(2026, 1, 1, tzinfo=UTC)


def address_of(number: int) -> str:
    """The address of a made-up person."""
    return f"person{number}@example.com"


def person(number: int) -> JSONObject:
    """The profile of a made-up person, the same for the same number. The id is the one that webhooks use for the
    address.
    """
    address = address_of(number)
    return {
        "_id": user_id_of(address),
        "email": address,
        "first_name": _FIRST_NAMES[number % len(_FIRST_NAMES)],
        "last_name": f"Sample {number}",
        "city": _CITIES[number % len(_CITIES)],
        "visitct": number % 50 + 1,
        "is_member": number % 2 == 0,
        "lastvisit_ts": f"{_FIRST_VISIT + timedelta(minutes=number % 100_000):%Y-%m-%dT%H:%M:%S.000Z}",
        "emails": [address],
        "hourly": {str(number % 24): number % 7 + 1},
    }


class People:
    """The people of one audience, in an order that only those who enter or leave change. A made-up one costs
    nothing.
    """

    def __init__(self) -> None:
        self._generated = 0
        # Numbers below `_generated` that are not in the audience, in order.
        self._gone: list[int] = []
        self._added: dict[str, JSONObject] = {}

    def __len__(self) -> int:
        """How many there are."""
        return self._generated - len(self._gone) + len(self._added)

    def generate(self, count: int) -> None:
        """So many more made-up people, each with the next number, enter."""
        self._generated += count

    def add(self, profiles: Iterable[Mapping[str, object]]) -> None:
        """These people enter behind all others; who is there with the same id, and for a made-up one the same address,
        has another profile from then on.

        Raises:
            ValueError: a profile has neither `_id` nor `email`, and nobody has entered.
        """
        for profile in [_identified(profile) for profile in profiles]:
            id_ = str(profile["_id"])
            number = _number_of(str(profile.get("email")))
            if number is not None and user_id_of(address_of(number)) == id_:
                self._leave(number)
            self._added.pop(id_, None)
            self._added[id_] = profile

    def remove(self, labels: Iterable[str]) -> None:
        """These people leave, named by id or address; names of strangers mean nothing. To find a made-up one by id,
        all of them are gone through.
        """
        labels = set(labels)
        staying = {}
        for id_, profile in self._added.items():
            names = {id_, str(profile.get("email"))}
            if labels.isdisjoint(names):
                staying[id_] = profile
            labels.discard(id_)
        self._added = staying
        numbers = [number for label in labels if (number := _number_of(label)) is not None]
        ids = {label for label in labels if "@" not in label}
        if ids:
            numbers += [number for number in self._numbers(0) if user_id_of(address_of(number)) in ids]
        for number in numbers:
            self._leave(number)

    def page(self, start: int, size: int) -> list[JSONObject]:
        """So many of them, without the first ones."""
        made_up = self._generated - len(self._gone)
        found = [person(number) for number in islice(self._numbers(start), size)] if start < made_up else []
        behind = max(start - made_up, 0)
        return found + list(islice(self._added.values(), behind, behind + size - len(found)))

    def _leave(self, number: int) -> None:
        place = bisect_left(self._gone, number)
        if number < self._generated and self._gone[place : place + 1] != [number]:
            insort(self._gone, number)

    def _numbers(self, start: int) -> Iterator[int]:
        """The numbers of those who are there, without the first ones."""
        low, high = start, start + len(self._gone)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - bisect_right(self._gone, middle) <= start:
                low = middle + 1
            else:
                high = middle
        gone = bisect_left(self._gone, low)
        for number in range(low, self._generated):
            if gone < len(self._gone) and self._gone[gone] == number:
                gone += 1
            else:
                yield number


def _number_of(address: str) -> int | None:
    found = _ADDRESS.fullmatch(address)
    return None if found is None else int(found[1])


def _identified(profile: Mapping[str, object]) -> JSONObject:
    id_, email = profile.get("_id"), profile.get("email")
    if id_ is None and not isinstance(email, str):
        raise ValueError("A profile has an `_id` or an `email`.")
    return {**profile, "_id": user_id_of(str(email)) if id_ is None else str(id_)}
