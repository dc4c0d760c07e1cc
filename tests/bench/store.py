"""
The store by itself, in this process: how fast it keeps changes, and how fast it hands members out and takes back how
their calls ended.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import uvloop

from app.domain.account import Room
from app.domain.change import Kind, MembershipChange, nanoseconds
from app.domain.member import Claim, Settlement
from app.store.engine import Database
from app.store.exports import Exports
from app.store.members import Members
from tests.bench.bodies import address
from tests.bench.cores import MEASURED, on_core
from tests.bench.scene import start_exports

ACCOUNT = "default"
EXPORT = 1
# As many webhooks as share a group commit under a rush.
AT_ONCE = 32
CLAIMED = 200
LEASE = timedelta(minutes=10)
VARS = {"first_name": "Ada", "city": "London"}
_people = count(1)


class Store:
    """
    One database with one running export, whose list is there. It measures in seconds of the wall's clock.
    """

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._runner = runner
        runner.run(start_exports(url, [ACCOUNT]))
        self.database = Database.open(url)
        self._members = Members(self.database, self.database.clock)
        exports = Exports(self.database, self.database.clock)
        (export,) = runner.run(exports.all())
        assert export.list_name is not None
        runner.run(exports.list_is_ready(ACCOUNT, export.list_name, "1"))

    def keep(self, people: int, *, at_once: int = AT_ONCE) -> float:
        """
        How many changes a second are kept, each of somebody new; so many wait at a time for their commit.
        """
        return self._runner.run(self._keep(people, at_once))

    def call(self, people: int) -> float:
        """
        How many members a second are claimed, and settled as told.
        """
        return self._runner.run(self._call(people))

    def close(self) -> None:
        """
        Give the database back.
        """
        self._runner.run(self.database.close())

    async def _keep(self, people: int, at_once: int) -> float:
        now = datetime.now(UTC)
        changes = iter([_enter(next(_people), now) for _ in range(people)])

        async def webhooks() -> None:
            for change in changes:
                await self._members.keep([change])

        began = time.monotonic()
        await asyncio.gather(*(webhooks() for _ in range(at_once)))
        return people / (time.monotonic() - began)

    async def _call(self, people: int) -> float:
        called = 0
        began = time.monotonic()
        while called < people:
            most = min(CLAIMED, people - called)
            claims = await self._members.claim(ACCOUNT, room=Room(most, most), lease_for=LEASE)
            assert claims, f"Only {called} members of {people} were due."
            settled = await asyncio.gather(*(self._members.settle(_told(claim)) for claim in claims))
            assert all(one.is_ours and one.due_at is None for one in settled)
            called += len(claims)
        return called / (time.monotonic() - began)


@contextmanager
def stores(urls: Sequence[str]) -> Iterator[list[Store]]:
    """
    One on each of these databases, which are empty; what of them runs in this process has one core.
    """
    with on_core(MEASURED), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened: list[Store] = []
        try:
            opened += [Store(url, runner) for url in urls]
            yield opened
        finally:
            for store in opened:
                store.close()


def _enter(person: int, now: datetime) -> MembershipChange:
    at_ns = nanoseconds(now)
    return MembershipChange(EXPORT, Kind.ENTER, address(person), f"{person:019d}", at_ns, at_ns, VARS)


def _told(claim: Claim) -> Settlement:
    return Settlement(claim, "ok", told=dict(claim.call.covers))
