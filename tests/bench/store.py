"""The store alone, in this process: stored changes per second, and claimed and settled members per second."""

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
# The number of webhooks that share a group commit under load.
AT_ONCE = 32
CLAIMED = 200
# Like the workers of three replicas. Each continues to claim while up to `IN_FLIGHT` claims are in progress.
CLAIMERS, IN_FLIGHT = 3, 3
LEASE = timedelta(minutes=10)
VARS = {"first_name": "Ada", "city": "London"}
_people = count(1)


class Store:
    """One database with one running export."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.url = url
        self._runner = runner
        self.database = Database.open(url)
        self._members = Members(self.database, self.database.clock)

    def keep(self, people: int, *, at_once: int = AT_ONCE) -> float:
        """Return the stored changes per second, each of a new member, with `at_once` parallel webhooks."""
        return self._runner.run(self._keep(people, at_once))

    def call(self, people: int) -> float:
        """Return the members per second that parallel workers claim and settle as confirmed."""
        return self._runner.run(self._call(people))

    def maintain(self) -> None:
        """Run the maintenance that the database would otherwise do later."""
        if self.database.is_shared:
            maintain(self.url)

    def close(self) -> None:
        self._runner.run(self.database.close())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _keep(self, people: int, at_once: int) -> float:
        now = datetime.now(UTC)
        changes = iter([_enter(next(_people), now) for _ in range(people)])

        async def webhooks() -> None:
            for change in changes:
                await self._members.apply([change])

        began = time.monotonic()
        await asyncio.gather(*(webhooks() for _ in range(at_once)))
        return people / (time.monotonic() - began)

    async def _call(self, people: int) -> float:
        left = people
        calls: list[asyncio.Task[None]] = []

        async def end(claims: list[Claim], free: asyncio.Semaphore) -> None:
            try:
                settled = await asyncio.gather(*(self._members.settle(_confirmed(claim)) for claim in claims))
                assert all(result.is_ours and result.due_at is None for result in settled)
            finally:
                free.release()

        async def claim_all() -> None:
            nonlocal left
            free = asyncio.Semaphore(IN_FLIGHT)
            while left:
                most = min(CLAIMED, left)
                left -= most
                await free.acquire()
                claims = await self._members.claim(ACCOUNT, capacity=Capacity(most, most), lease_for=LEASE)
                assert len(claims) == most, f"Only {len(claims)} members of {most} were due."
                calls.append(asyncio.create_task(end(claims, free)))

        began = time.monotonic()
        await asyncio.gather(*(claim_all() for _ in range(CLAIMERS)))
        await asyncio.gather(*calls)
        return people / (time.monotonic() - began)


@contextmanager
def stores(urls: Sequence[str], *, are_new: bool = True) -> Iterator[list[Store]]:
    """Open a store on each database. This process runs on one core.

    Args:
        are_new: whether the databases are empty. They get an export with an existing list.
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
        await exports.mark_list_ready(ACCOUNT, export.list_name, "1")
    finally:
        await database.close()


def _enter(person: int, now: datetime) -> MembershipChange:
    at_ns = nanoseconds(now)
    return MembershipChange(EXPORT, Kind.ENTER, address(person), f"{scattered(person):019d}", at_ns, at_ns, VARS)


def _confirmed(claim: Claim) -> Settlement:
    return Settlement(claim, "ok", confirmed=dict(claim.call.covers))
