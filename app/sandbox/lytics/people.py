"""The members of an audience: generated people, built from their number on demand, and added profiles."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice

from app.sandbox.bodies import JSONObject
from app.sandbox.lytics.webhooks import user_id_of

_ADDRESS = re.compile(r"person(0|[1-9][0-9]{0,8})@example\.com")
_FIRST_NAMES = ("Ada", "Ben", "Cora", "Dan", "Eve", "Finn", "Gia", "Hal", "Ida", "Jon", "Kim", "Leo")
_CITIES = ("Leeds", "Lyon", "Linz", "Lima", "Lagos")
_FIRST_VISIT = datetime(2026, 1, 1, tzinfo=UTC)


def address_of(number: int) -> str:
    """Return the address of a generated person."""
    return f"person{number}@example.com"


def person(number: int) -> JSONObject:
    """Return the profile of a generated person. Its id is `user_id_of` the address, as in `webhooks`."""
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
    """The members of one audience in a stable order. Generated people take no memory."""

    def __init__(self) -> None:
        self._generated = 0
        # The sorted numbers below `_generated` of people that left the audience.
        self._gone: list[int] = []
        self._added: dict[str, JSONObject] = {}

    def __len__(self) -> int:
        return self._generated - len(self._gone) + len(self._added)

    def generate(self, count: int) -> None:
        """Add this many generated people, with the next numbers."""
        self._generated += count

    def add(self, profiles: Iterable[Mapping[str, object]]) -> None:
        """Append these profiles. They replace profiles with the same id, and generated ones with the same address.

        Raises:
            ValueError: a profile has neither `_id` nor `email`; nothing was added.
        """
        for profile in [_identified(profile) for profile in profiles]:
            id_ = str(profile["_id"])
            number = _number_of(str(profile.get("email")))
            if number is not None and user_id_of(address_of(number)) == id_:
                self._leave(number)
            self._added.pop(id_, None)
            self._added[id_] = profile

    def remove(self, labels: Iterable[str]) -> None:
        """Remove members by id or address; unknown ones are ignored.

        Finding a generated person by id goes through all of them.
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
        """Return up to `size` profiles, after skipping `start` of them."""
        generated = self._generated - len(self._gone)
        found = [person(number) for number in islice(self._numbers(start), size)] if start < generated else []
        offset = max(start - generated, 0)
        return found + list(islice(self._added.values(), offset, offset + size - len(found)))

    def _leave(self, number: int) -> None:
        index = bisect_left(self._gone, number)
        if number < self._generated and self._gone[index : index + 1] != [number]:
            insort(self._gone, number)

    def _numbers(self, start: int) -> Iterator[int]:
        """Yield the numbers of the generated members, after skipping `start` of them."""
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
        raise ValueError("A profile must have an `_id` or an `email`.")
    return {**profile, "_id": user_id_of(str(email)) if id_ is None else str(id_)}
