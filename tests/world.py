"""The whole service in virtual time: real routes, store, worker and client, between the two sandboxes.

Everything runs on one event loop in one thread, so hours pass in moments. On SQLite a run is repeatable: statements
run on the loop itself instead of the driver's thread. Time stands still while PostgreSQL works. A process can die
between any two commits: its objects are dropped, its requests continue at the sandbox, and the next process opens what
is stored.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest import mock
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import httpx
import structlog
from fastapi import FastAPI
from sqlalchemy import Connection

from app import main
from app.backfills import loop as backfill_loop
from app.delivery import chores
from app.domain.errors import StoreUnavailable
from app.main import Environment, create_app
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.sailthru import Access, SailthruSandbox
from app.service import Service
from app.store.database import sqlite
from app.store.database.engine import Database
from tests.factories import NOON
from tests.places import PLACE
from tests.service import ADMIN_TOKEN, API_KEY, API_SECRET, HOOK, LYTICS_TOKEN, WEBHOOK_TOKEN, settings
from tests.virtual_time import VirtualTimeLoop, whereabouts

T = TypeVar("T")
SELDOM = timedelta(minutes=10)
OUR_SANDBOX = str(Path("app") / "sandbox")


class Died(Exception):
    """The process ended before it answered."""


class _OnTheLoop(Executor):
    """Replaces the store's threads: work is done at once, and its result arrives in a later turn of the loop."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the caller handles every error
            done.set_exception(error)
        return done


class _Life:
    """One process. It may end after any commit."""

    def __init__(self, loses_store: Callable[[], bool]) -> None:
        self.loses_store = loses_store
        self.over = asyncio.Event()
        self.commits_left: int | None = None
        self.transactions: set[asyncio.Task[Any]] = set()

    async def in_time_that_stands(self, transaction: Coroutine[Any, Any, T]) -> T:
        """Return the result. A database server does not know virtual time."""
        task = asyncio.create_task(_outside(transaction))
        self.transactions.add(task)
        task.add_done_callback(self.transactions.discard)
        return await asyncio.shield(task)

    def check(self) -> None:
        if self.over.is_set():
            raise asyncio.CancelledError

    def reach_store(self) -> None:
        """Raise `StoreUnavailable` if the test cuts the connection. After a commit, only the answer is lost."""
        if self.loses_store():
            raise StoreUnavailable("The test has cut the connection.")

    def committed(self) -> None:
        if self.commits_left is not None:
            self.commits_left -= 1
            if self.commits_left <= 0:
                self.over.set()
        self.check()

    async def end(self) -> None:
        """Cancel every task where it is."""
        self.over.set()
        await self._transactions_end()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not _is_sandbox(task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _transactions_end(self) -> None:
        """Wait for statements that a database server finishes although the process died."""
        while under_way := [transaction for transaction in self.transactions if not transaction.done()]:
            await asyncio.wait(under_way)


@dataclass
class World:
    """Use it as `with World(folder) as world: world.run(world.send(...))`.

    Args:
        folder: where the database lies.
        different: replaces settings of `tests.service.settings`.
        limits, latency: of the Sailthru sandbox.
        keys: the keys of further accounts, with their secrets.
        seed: of all random numbers, of the service and the sandbox.
        confirmed: a list that receives the body of each POST to `/user`, in order; None to record nothing.
        is_quiet: log nothing.

    Attributes:
        store_lost: the fraction of all database calls that fail from now on.
        confirmed_at: when each call of `confirmed` left.
        signatures: of all calls, if `confirmed` is a list.
        errors: the bodies of all answers that are not successful.
    """

    folder: Path
    different: dict[str, Any] = field(default_factory=dict)
    audiences: tuple[Audience, ...] = (SPRING_BUYERS,)
    limits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    latency: tuple[float, float] = (0.15, 0.05)
    keys: Mapping[str, str | Access] = field(default_factory=dict)
    seed: int = 0
    step: timedelta = timedelta(0)
    joins_repeated: float = 0
    store_lost: float = 0
    deaths: int = 0
    confirmed: list[dict[str, Any]] | None = None
    is_quiet: bool = True
    confirmed_at: list[datetime] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        # Create the database before anything is patched.
        PLACE.url(self.folder)
        self._patches = _patches()
        self._patches.__enter__()
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self._runner.__enter__()
        self._logs = structlog.get_config()
        if self.is_quiet:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self.run(self._open())
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.run(self._close())
        finally:
            structlog.configure(**self._logs)
            self._runner.__exit__(None, None, None)
            self._patches.__exit__(None, None, None)

    def account(self) -> dict[str, Any]:
        """Return what Sailthru has seen, without the single calls."""
        state: Any = self.sailthru.state(with_log=False)
        account: dict[str, Any] = state["accounts"][API_KEY]
        return account

    async def sleep(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Died: the process ended meanwhile.
        """
        await self._alive(asyncio.sleep(seconds))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def real_clock(self) -> datetime:
        """The right time."""
        return NOON + timedelta(seconds=self._runner.get_loop().time())

    def clock(self) -> datetime:
        """The service's clock, which is wrong by `step`."""
        return self.real_clock() + self.step

    async def send(self, body: object) -> httpx.Response:
        """Send a webhook and return the answer.

        Raises:
            Died: the process ended before it answered.
        """
        return await self._alive(self.http.post(HOOK, json=body, headers={"Authorization": WEBHOOK_TOKEN}))

    async def admin(self, path: str, *, method: str = "GET", json: object = None) -> Any:
        """Call the service's API as an operator and return the answer."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = await self._alive(self.http.request(method, path, headers=headers, json=json))
        assert answer.is_success, answer.text
        return answer.json()

    async def metrics(self) -> str:
        answer = await self.http.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        return answer.text

    async def export(self, fields: dict[str, str]) -> None:
        """Start the export of the first audience before it has members, and wait for its list."""
        audience = self.audiences[0]
        await self.service.exports.start(audience.id, audience_slug=audience.slug, account="default", fields=fields)
        self.service.exports_changed()
        await self.work_until_told()

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Read from the database, also after the process died."""
        return await _outside(_read(self.service.database, work))

    async def counts(self) -> dict[str, int]:
        """Return the counts of all exports, added up."""
        total: dict[str, int] = {}
        for export in (await self.admin("/exports"))["items"]:
            for name, count in export["counts"].items():
                total[name] = total.get(name, 0) + count
        return total

    async def work_until(self, holds: Callable[[], Coroutine[Any, Any, bool]], *, patience: timedelta) -> None:
        """Let time pass until the condition holds."""
        ends = self.real_clock() + patience
        pause = 1.0
        while not await holds():
            if self.real_clock() >= ends:
                raise AssertionError(f"The condition did not hold. {await self._state()}")
            await self.sleep(pause)
            pause = min(2 * pause, 600.0)

    async def work_until_told(self, *, patience: timedelta = timedelta(days=8)) -> None:
        """Let time pass until nothing is pending."""

        async def is_told() -> bool:
            exports = (await self.admin("/exports"))["items"]
            return all(e["state"] == "running" and e["counts"]["pending"] == 0 for e in exports)

        await self.work_until(is_told, patience=patience)

    async def _state(self) -> dict[str, Any]:
        seen = self.account()
        return {
            "exports": [(e["state"], e["reason"], e["counts"]) for e in (await self.admin("/exports"))["items"]],
            "accounts": (await self.admin("/authorizations"))["items"],
            "breakers": [vars(account.breaker) for account in self.service.accounts.values()],
            "sailthru": {name: seen[name] for name in ("calls", "answers", "faults", "over_limit")},
            "tasks": whereabouts(asyncio.get_running_loop()),
        }

    async def die(self) -> None:
        """Kill the process now, and start the next one."""
        await self.start_again()

    async def start_again(self) -> None:
        """Drop what is left of a dead process, and start the next one on what was committed."""
        self.deaths += 1
        # A process that finds no database at its start would only be started again.
        self.store_lost = 0
        self.note()
        await self.life.end()
        await self.service.database.close()
        await self._start()

    async def _alive(self, answer: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(answer)
        over = asyncio.create_task(self.life.over.wait())
        await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            raise Died
        if task.cancelled():
            raise Died
        return task.result()

    async def _open(self) -> None:
        self.dice = random.Random(self.seed)
        self.sailthru = SailthruSandbox(
            {API_KEY: API_SECRET, **self.keys},
            clock=self.real_clock,
            limits=self.limits,
            latency=self.latency,
            dice=random.Random(self.seed),
        )
        self.lytics = LyticsSandbox(LYTICS_TOKEN, self.audiences, clock=self.real_clock)
        await self._start()

    async def _start(self) -> None:
        self.life = _Life(lambda: self.store_lost > 0 and self.dice.random() < self.store_lost)
        environment = Environment(
            clock=self.clock,
            draw=self.dice.random,
            sailthru=lambda _: _Tap(self),
            lytics=httpx.ASGITransport(self.lytics),
        )
        self.app: FastAPI = create_app(settings(self.folder, **self.different), environment)
        self.service: Service = self.app.state.service
        _LIVES[self.service.database] = self.life
        await self.service.start()
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://service.test",
            event_hooks={"response": [self._note_error]},
        )

    async def _note_error(self, answer: httpx.Response) -> None:
        if not answer.is_success:
            self.errors.append((await answer.aread()).decode())

    async def _close(self) -> None:
        self.note()
        await self.service.drain()
        await self.service.close()
        self.sailthru.reset()

    def note(self) -> None:
        """Keep what the process counted, before its metrics are gone."""
        name = "lytics_sailthru_joins_repeated_after_unknown_total"
        value = self.service.meter.registry.get_sample_value(name, {"account": "default"})
        self.joins_repeated += value or 0


async def _outside(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with loop.outside():
        return await work


_LIVES: WeakKeyDictionary[Database, _Life] = WeakKeyDictionary()
_write, _change, _read, _shut = Database.write, Database.change, Database.read, Database.close


async def _write_while_alive(self: Database, work: Callable[[Connection], T]) -> T:
    life = _LIVES[self]
    life.check()
    life.reach_store()
    result = await life.in_time_that_stands(_write(self, work))
    life.committed()
    life.reach_store()
    return result


async def _change_while_alive(self: Database, work: Callable[[Connection], T]) -> T:
    return await _LIVES[self].in_time_that_stands(_change(self, work))


async def _read_while_alive(self: Database, work: Callable[[Connection], T]) -> T:
    life = _LIVES[self]
    life.check()
    life.reach_store()
    result = await life.in_time_that_stands(_read(self, work))
    life.check()
    return result


async def _close_in_time_that_stands(self: Database) -> None:
    await _outside(_shut(self))


@contextmanager
def _patches() -> Iterator[None]:
    with (
        mock.patch.object(sqlite, "ThreadPoolExecutor", _OnTheLoop),
        mock.patch.object(Database, "write", _write_while_alive),
        mock.patch.object(Database, "change", _change_while_alive),
        mock.patch.object(Database, "read", _read_while_alive),
        mock.patch.object(Database, "close", _close_in_time_that_stands),
        # There is one replica at a time, so there is nothing to find that another replica did.
        mock.patch.multiple(main, DUE_POLL_INTERVAL=SELDOM, ORDERS_POLL_INTERVAL=SELDOM),
        mock.patch.object(chores, "BREAKER_READ_INTERVAL", SELDOM),
        mock.patch.object(backfill_loop, "POLL_INTERVAL", SELDOM),
        # Its connection would wait in real time.
        mock.patch.object(Database, "notifications", return_value=None),
    ):
        yield


class _Tap(httpx.ASGITransport):
    """Records the calls to Sailthru."""

    def __init__(self, world: World) -> None:
        super().__init__(world.sailthru)
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._world.confirmed is not None:
            fields = parse_qs(request.content.decode() or request.url.query.decode())
            self._world.signatures += fields["sig"]
            if (request.method, request.url.path) == ("POST", "/user"):
                self._world.confirmed.append(json.loads(fields["json"][0]))
                self._world.confirmed_at.append(self._world.real_clock())
        return await super().handle_async_request(request)


def _is_sandbox(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and OUR_SANDBOX in code.co_filename
