"""The whole service in virtual time: real routes, store, worker and client, between the two sandboxes.

One event loop in one thread runs everything, so a test can simulate hours. On SQLite a run is repeatable, because
statements run on the loop itself. On PostgreSQL, virtual time stops while the server works. A test can end the process
between any two commits. Requests that have left continue in the sandbox, and the next process opens the same database.
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
RARELY = timedelta(minutes=10)
OUR_SANDBOX = str(Path("app") / "sandbox")


class Died(Exception):
    """The process ended before it answered."""


class _OnTheLoop(Executor):
    """Replaces the store's threads. Work runs at once, and its result arrives in a later turn of the loop."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(work(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the caller handles every error
            future.set_exception(error)
        return future


class _Life:
    """The lifetime of one process, which may end after any commit."""

    def __init__(self, loses_store: Callable[[], bool]) -> None:
        self.loses_store = loses_store
        self.over = asyncio.Event()
        self.commits_left: int | None = None
        self.transactions: set[asyncio.Task[Any]] = set()

    async def run_outside(self, transaction: Coroutine[Any, Any, T]) -> T:
        """Run a transaction while virtual time stops, because a database server needs real time."""
        task = asyncio.create_task(_outside(transaction))
        self.transactions.add(task)
        task.add_done_callback(self.transactions.discard)
        return await asyncio.shield(task)

    def check(self) -> None:
        if self.over.is_set():
            raise asyncio.CancelledError

    def reach_store(self) -> None:
        """Raise `StoreUnavailable` if the test interrupts the connection. After a commit, only the answer is lost."""
        if self.loses_store():
            raise StoreUnavailable("The test has interrupted the connection.")

    def committed(self) -> None:
        if self.commits_left is not None:
            self.commits_left -= 1
            if self.commits_left <= 0:
                self.over.set()
        self.check()

    async def end(self) -> None:
        """End the process: cancel all tasks except those of the sandboxes."""
        self.over.set()
        await self._wait_for_transactions()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not _is_sandbox(task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_transactions(self) -> None:
        """Wait for transactions that a database server finishes after the end of the process."""
        while running := [transaction for transaction in self.transactions if not transaction.done()]:
            await asyncio.wait(running)


@dataclass
class World:
    """The service and its sandboxes, as in `with World(folder) as world: world.run(world.send(...))`.

    Args:
        folder: the folder of the database.
        different: settings that replace those of `tests.service.settings`.
        limits: the rate limits of the Sailthru sandbox.
        latency: the latencies of the Sailthru sandbox.
        keys: the API keys of further accounts, with their secrets.
        seed: the seed of all random numbers, in the service and in the sandbox.
        step: the error of the service's clock.
        confirmed: a list that receives the body of each POST to `/user`, in order; None to record nothing.
        is_quiet: log nothing.

    Attributes:
        store_lost: the fraction of database calls that fail.
        confirmed_at: the time at which each call of `confirmed` left.
        signatures: the signatures of all calls, if `confirmed` is a list.
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
        """Return the state of the account in the Sailthru sandbox, without the log of calls."""
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
        """Return the correct time."""
        return NOON + timedelta(seconds=self._runner.get_loop().time())

    def clock(self) -> datetime:
        """Return the time of the service's clock, which is wrong by `step`."""
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
        await self.work_until_delivered()

    async def read_database(self, work: Callable[[Connection], T]) -> T:
        """Read from the database, also after the process has ended."""
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
        deadline = self.real_clock() + patience
        interval = 1.0
        while not await holds():
            if self.real_clock() >= deadline:
                raise AssertionError(f"The condition did not hold. {await self._state()}")
            await self.sleep(interval)
            interval = min(2 * interval, 600.0)

    async def work_until_delivered(self, *, patience: timedelta = timedelta(days=8)) -> None:
        """Let time pass until all exports are running and have no pending change."""

        async def is_delivered() -> bool:
            exports = (await self.admin("/exports"))["items"]
            return all(e["state"] == "running" and e["counts"]["pending"] == 0 for e in exports)

        await self.work_until(is_delivered, patience=patience)

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
        """End the process now and start the next one."""
        await self.restart()

    async def restart(self) -> None:
        """Clean up after a process that has ended, and start the next one on the same database."""
        self.deaths += 1
        # Without a database the next process could not start.
        self.store_lost = 0
        self.add_up_metrics()
        await self.life.end()
        await self.service.database.close()
        await self._start()

    async def _alive(self, answer: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(answer)
        ended = asyncio.create_task(self.life.over.wait())
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
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
        self.add_up_metrics()
        await self.service.drain()
        await self.service.close()
        self.sailthru.reset()

    def add_up_metrics(self) -> None:
        """Add up the metrics of the process before they are lost."""
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
    result = await life.run_outside(_write(self, work))
    life.committed()
    life.reach_store()
    return result


async def _change_while_alive(self: Database, work: Callable[[Connection], T]) -> T:
    return await _LIVES[self].run_outside(_change(self, work))


async def _read_while_alive(self: Database, work: Callable[[Connection], T]) -> T:
    life = _LIVES[self]
    life.check()
    life.reach_store()
    result = await life.run_outside(_read(self, work))
    life.check()
    return result


async def _close_while_time_stops(self: Database) -> None:
    await _outside(_shut(self))


@contextmanager
def _patches() -> Iterator[None]:
    with (
        mock.patch.object(sqlite, "ThreadPoolExecutor", _OnTheLoop),
        mock.patch.object(Database, "write", _write_while_alive),
        mock.patch.object(Database, "change", _change_while_alive),
        mock.patch.object(Database, "read", _read_while_alive),
        mock.patch.object(Database, "close", _close_while_time_stops),
        # Only one replica runs at a time, so no polling for other replicas is needed.
        mock.patch.multiple(main, DUE_POLL_INTERVAL=RARELY, ORDERS_POLL_INTERVAL=RARELY),
        mock.patch.object(chores, "BREAKER_READ_INTERVAL", RARELY),
        mock.patch.object(backfill_loop, "POLL_INTERVAL", RARELY),
        # The connection for notifications would wait in real time.
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
