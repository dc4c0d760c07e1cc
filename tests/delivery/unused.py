"""Base classes for fakes. A call to a method that the fake does not override fails the test."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.domain.account import Capacity
from app.domain.call import Call, Claim
from app.domain.list_check import ListSeen
from app.domain.settlement import Settled, Settlement


class UnusedQueue:
    async def claim(self, account: str, *, capacity: Capacity, lease_for: timedelta) -> list[Claim]:
        raise AssertionError("claim")

    async def next_due_at(self, account: str) -> datetime | None:
        raise AssertionError("next_due_at")

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        raise AssertionError("begin")

    async def settle(self, settlement: Settlement) -> Settled:
        raise AssertionError("settle")

    async def next_batch(self, export_id: int) -> bool:
        raise AssertionError("next_batch")

    async def flush(self) -> None:
        raise AssertionError("flush")


class UnusedLists:
    async def find_or_create(self, name: str) -> str | None:
        raise AssertionError("find_or_create")

    async def find(self, name: str) -> ListSeen | None:
        raise AssertionError("find")

    async def index(self) -> Mapping[str, list[ListSeen]]:
        raise AssertionError("index")
