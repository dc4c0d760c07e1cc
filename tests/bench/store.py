"""The store by itself, in this process: how fast it keeps changes, and how fast it hands members out and takes back how
their calls ended.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import uvloop

from app.__main__ import collect_garbage_rarely
from app.domain.account import Capacity
from app.domain.call import Claim
from app.domain.change import Kind, MembershipChange, nanoseconds
from app.domain.settlement import Settlement
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from tests.bench.bodies import address, scattered
from tests.bench.cores import MEASURED, on_core
from tests.bench.databases import maintain
from tests.bench.scene import start_exports

T = TypeVar("T")

ACCOUNT = "default"
EXPORT = 1
# As many webhooks as share a group commit under a rush.
AT_ONCE = 32
CLAIMED = 200
# As the workers of three replicas, side by side. Each claims while calls of earlier claims end, up to so many claims.
CLAIMERS, UNDER_WAY = 3, 3
LEASE = timedelta(minutes=10)
VARS = {"first_name": "Ada", "city": "London"}
_people = count(1)


class Store:
    """One database with one running export. It measures in seconds of the wall's clock."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.url = url
        self._runner = runner
        self.database = Database.open(url)
        self._members = Members(self.database, self.database.clock)

    def keep(self, people: int, *, at_once: int = AT_ONCE) -> float:
        """How many changes a second are kept, each of somebody new; so many wait at a time for their commit."""
        return self._runner.run(self._keep(people, at_once))

    def call(self, people: int) -> float:
        """How many members a second are claimed, by several side by side, and settled as told while others are
        claimed.
        """
        return self._runner.run(self._call(people))

    def maintain(self) -> None:
        """Whatever the database does by itself where it has the time."""
        if self.database.is_shared:
            maintain(self.url)

    def close(self) -> None:
        """Give the database back."""
        self._runner.run(self.database.close())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What some work with the database comes to."""
        return self._runner.run(work)

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
        left = people
        calls: list[asyncio.Task[None]] = []

        async def end(claims: list[Claim], free: asyncio.Semaphore) -> None:
            try:
                settled = await asyncio.gather(*(self._members.settle(_told(claim)) for claim in claims))
                assert all(one.is_ours and one.due_at is None for one in settled)
            finally:
                free.release()

        async def claim_all() -> None:
            nonlocal left
            free = asyncio.Semaphore(UNDER_WAY)
            while left:
                most = min(CLAIMED, left)
                left -= most
                await free.acquire()
                claims = await self._members.claim(ACCOUNT, room=Capacity(most, most), lease_for=LEASE)
                assert len(claims) == most, f"Only {len(claims)} members of {most} were due."
                calls.append(asyncio.create_task(end(claims, free)))

        began = time.monotonic()
        await asyncio.gather(*(claim_all() for _ in range(CLAIMERS)))
        await asyncio.gather(*calls)
        return people / (time.monotonic() - began)


@contextmanager
def stores(urls: Sequence[str], *, are_new: bool = True) -> Iterator[list[Store]]:
    """One on each of these databases; what of them runs in this process has one core.

    Args:
        are_new: the databases are empty, and get an export whose list is there.
    """
    with on_core(MEASURED), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened: list[Store] = []
        try:
            for url in urls:
                if are_new:
                    runner.run(_make_ready(url))
                opened.append(Store(url, runner))
            # As the service does.
            collect_garbage_rarely()
            yield opened
        finally:
            for store in opened:
                store.close()


async def _make_ready(url: str) -> None:
    await start_exports(url, [ACCOUNT])
    database = Database.open(url)
    try:
        exports = Exports(database, database.clock)
        (export,) = await exports.all()
        assert export.list_name is not None
        await exports.list_is_ready(ACCOUNT, export.list_name, "1")
    finally:
        await database.close()


def _enter(person: int, now: datetime) -> MembershipChange:
    at_ns = nanoseconds(now)
    return MembershipChange(EXPORT, Kind.ENTER, address(person), f"{scattered(person):019d}", at_ns, at_ns, VARS)


def _told(claim: Claim) -> Settlement:
    return Settlement(claim, "ok", confirmed=dict(claim.call.covers))
