"""Composition, the only place: `build` opens and joins the parts, `create_app` puts the doors before them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import httpx
import structlog
from fastapi import FastAPI

from app import __version__
from app.backfills.loop import BackfillLoop
from app.backfills.scan import Backfiller
from app.delivery.circuit_breaker import MOST_PLACES, CircuitBreaker
from app.delivery.deliver import Deliverer
from app.delivery.loop import LONGEST_SLEEP, AccountLoop
from app.delivery.worker import Worker
from app.domain.account import AccountReport
from app.domain.erasure import Digests
from app.domain.errors import BadSettings, StoreUnavailable
from app.domain.export import Export
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.resolve import Resolver
from app.domain.retry import LONGEST_WINDOW, RetryPolicy
from app.exports.lists import ListMaker
from app.exports.monitor import ListMonitor
from app.exports.name import NEED_LIST, ExportNamer
from app.exports.start import ExportStarter
from app.lytics.address import usable_address
from app.lytics.client import LyticsClient
from app.lytics.webhook import WebhookToken
from app.metrics import Metrics, Standing
from app.receive import Receiver
from app.sailthru.client import SailthruClient
from app.sailthru.lists import Lists
from app.sailthru.protocol import Credentials
from app.sailthru.rate_limit import RateLimitedClient, learn_from_headers
from app.sailthru.rules import RULES
from app.settings import DEFAULT_ACCOUNT, Settings, parse_tokens
from app.store.backfills.backfills import Backfills
from app.store.database.engine import Database
from app.store.database.notifications import EVERYTHING
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.history.rejected import RejectedEvents
from app.store.history.retention import Retention
from app.store.members.dead_letters import DeadLetters
from app.store.members.members import Members
from app.store.migrate import migrate
from app.store.replicas.accounts import Accounts
from app.store.replicas.chores import Chores
from app.store.replicas.limits import SharedLimits
from app.web import problems
from app.web.access_log import AccessLog
from app.web.api import authorizations as authorization_routes
from app.web.api import backfills as backfill_routes
from app.web.api import dead_letters as dead_letter_routes
from app.web.api import erasures as erasure_routes
from app.web.api import exports as export_routes
from app.web.api import health as health_routes
from app.web.api import lytics as lytics_routes
from app.web.api import members as member_routes
from app.web.api import openapi as openapi_routes
from app.web.api import rejected_events as rejected_event_routes
from app.web.api import starting as starting_routes
from app.web.dependencies import Dependencies
from app.web.webhook import route as webhook_routes
from app.web.webhook.intake import WebhookIntake

log = structlog.get_logger(__name__)

LIST_PATIENCE = timedelta(seconds=10)
# Where replicas share a database: how often one looks for what another has done, although nobody woke it.
LOOK_FOR_DUE, LOOK_FOR_ORDERS, LOOK_AT_ACCOUNTS = timedelta(seconds=15), timedelta(seconds=30), timedelta(seconds=15)
# So long a start waits for PostgreSQL, which may start at the same time.
START_PATIENCE_SECONDS, START_PAUSE_SECONDS = 60.0, 2.0
EXPORTS_CHANGED, BACKFILL_STARTED, DUE = "exports", "backfill", "due:"


class Role(StrEnum):
    """What a process does of the whole: all of it, only what answers requests, or only what runs beside that."""

    ALL = "all"
    DOORS = "doors"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Environment:
    """The world as the service meets it; a test puts its own in place of each part.

    Args:
        clock: the time, aware and in UTC; None for the one that all who use the database share.
        draw: the dice, 0 to 1.
        sailthru: makes the transport of one connection to the Sailthru account of a label; None for real ones.
        lytics: the transport to Lytics; None for a real one.
    """

    clock: Callable[[], datetime] | None = None
    draw: Callable[[], float] = random.random
    sailthru: Callable[[str], httpx.AsyncBaseTransport] | None = None
    lytics: httpx.AsyncBaseTransport | None = None


class Service:
    """The parts of one running service, joined; see `build`."""

    def __init__(self, settings: Settings, outside: Environment, role: Role) -> None:
        timeout = timedelta(seconds=settings.sailthru_timeout_seconds)
        self.is_started = False
        self.is_draining = False
        # Why it did not start, where a setting does not fit what the database holds.
        self.refusal: BadSettings | None = None
        self.meter = Metrics(__version__)
        self._url = settings.database_url
        self._has_erasure_key = settings.erasure_key is not None
        self.role = role
        self.database = Database.open(settings.database_url)
        is_shared = self.database.is_shared
        clock = self.clock = outside.clock or self.database.clock
        self._notifications = self.database.notifications(self._rung)
        self._listening: asyncio.Task[None] | None = None
        self.exports = Exports(self.database, clock)
        key = settings.erasure_key
        digests = Digests(key.get_secret_value()) if key is not None else None
        self.erasures = Erasures(self.database, clock, digests)
        resolver = Resolver(usable_address, auto_export=DEFAULT_ACCOUNT if settings.auto_export else None)
        self.members = Members(self.database, clock, resolver=resolver, digests=digests, on_commit=self.meter.committed)
        self.journal = Journal(self.database)
        self.dead_letters = DeadLetters(self.database, clock)
        self.rejected_events = RejectedEvents(self.database, on_commit=self.meter.committed)
        accounts = settings.accounts()
        self._base_urls = {label: account.base_url for label, account in accounts.items()}
        budgets = {label: RateLimiter(settings.sailthru_rate_share, is_shared=is_shared) for label in accounts}
        shared_budgets = SharedLimits(self.database)
        self._sailthru = {
            label: SailthruClient(
                Credentials(account.api_key, account.api_secret, account.base_url),
                lanes=MOST_PLACES * settings.sailthru_concurrency,
                timeout=timeout,
                transport=partial(outside.sailthru, label) if outside.sailthru is not None else None,
                on_rate_limit=learn_from_headers(budgets[label], clock),
            )
            for label, account in accounts.items()
        }
        self._paces = {
            label: RateLimitedClient(
                client,
                budgets[label],
                clock=clock,
                on_end=partial(self.meter.called, label),
                shares=(shared_budgets, label) if is_shared else None,
            )
            for label, client in self._sailthru.items()
        }
        lists = {label: Lists(pace, pace.for_backfills()) for label, pace in self._paces.items()}
        token = settings.lytics_api_token
        self.lytics = (
            LyticsClient(
                token.get_secret_value(),
                settings.lytics_base_url,
                transport=outside.lytics,
                on_end=self.meter.asked_lytics,
                draw=outside.draw,
                clock=clock,
            )
            if token
            else None
        )
        list_makers = {label: ListMaker(label, each, self.exports, timeout=timeout) for label, each in lists.items()}
        self._naming = ExportNamer(self.exports, self.lytics, list_makers, RULES)
        self.starting = ExportStarter(self.exports, self.lytics, accounts.keys(), RULES)
        hours = settings.silent_after_hours
        chores = Chores(self.database, clock)
        self.watch = ListMonitor(
            self.exports,
            lists,
            clock,
            silent_after=timedelta(hours=hours) if hours else None,
            may_look_at_lists=partial(chores.take_turn, "lists") if is_shared else None,
        )
        standings = Accounts(self.database)
        gates = self._gates = {
            label: CircuitBreaker(
                label, standings, clock, concurrency=settings.sailthru_concurrency, pace=pace, is_shared=is_shared
            )
            for label, pace in self._paces.items()
        }
        policy = self._policy = RetryPolicy(
            first_wait=timedelta(seconds=settings.retry_first_wait_seconds),
            longest_wait=timedelta(seconds=settings.retry_longest_wait_seconds),
            window=timedelta(hours=settings.retry_window_hours),
        )
        self.deliverers = {
            label: Deliverer(
                each,
                self.members,
                list_makers[label],
                self.meter,
                gates[label],
                policy=policy,
                timeout=timeout,
                clock=clock,
                draw=outside.draw,
            )
            for label, each in lists.items()
        }
        self.backfills = Backfills(self.database, clock, digests=digests)
        backfiller = Backfiller(
            self.exports,
            self.backfills,
            self.lytics,
            usable_address=usable_address,
            wake=self.wake,
            clock=clock,
        )
        self.backfill_loop = BackfillLoop(self.backfills, backfiller)
        loops = {
            label: AccountLoop(
                label,
                self.members,
                each,
                gates[label],
                clock,
                longest_sleep=LOOK_FOR_DUE if is_shared else LONGEST_SLEEP,
            )
            for label, each in self.deliverers.items()
        }
        has_worker = role is not Role.DOORS
        house = Retention(self.database, clock, settings.journal_days, chores if is_shared else None)
        self.worker = Worker(
            self.members,
            self.exports,
            loops if has_worker else {},
            self._naming.run,
            # A call, and the read or the list before it.
            drain_patience=3 * timeout,
            chores={"watch": self.watch.look}
            | ({"accounts": self._look_at_accounts} if is_shared else {})
            | ({"housekeeping": house.prune, "clock": self._bring_back} if has_worker else {}),
            backfills=self.backfill_loop if has_worker else None,
            looks_every=LOOK_FOR_ORDERS if is_shared else None,
        )
        self.receiver = Receiver(self.members.receive, wake=self.wake, on_new_export=self.exports_changed)

    @property
    def is_ready(self) -> bool:
        """True after start-up and until draining."""
        return self.is_started and not self.is_draining

    def accounts(self) -> dict[str, str]:
        """The state of each Sailthru account."""
        return {label: "running" if gate.pause is None else gate.pause.value for label, gate in self._gates.items()}

    def authorizations(self) -> list[AccountReport]:
        """Each Sailthru account, and how it stands."""
        return [
            AccountReport(label, self._base_urls[label], gate.standing, self._paces[label].room_left())
            for label, gate in self._gates.items()
        ]

    def exports_changed(self) -> None:
        """Something was ordered of an export: carry it out for each of its members."""
        self.worker.exports_changed()
        self._ring(EXPORTS_CHANGED)

    def backfill_started(self) -> None:
        """A backfill was started: go on with it."""
        self.backfill_loop.wake()
        self._ring(BACKFILL_STARTED)

    async def make_list(self, export: Export) -> None:
        """Try to make an export's list now; whoever waits for it waits ten seconds at most, and it is tried on."""
        if export.state in NEED_LIST and export.list_ready_at is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._naming.make_list(export), LIST_PATIENCE.total_seconds())

    def is_silent(self, export_id: int) -> bool:
        """True while no webhook comes for an export that had some."""
        return self.watch.is_silent(export_id)

    def wake(self, account: str) -> None:
        """Somebody of this account is due."""
        self.worker.wake(account)
        self._ring(f"{DUE}{account}")

    def _ring(self, what: str) -> None:
        """Wake those who do the work, where that is somebody else."""
        if self._notifications is not None and self.role is Role.DOORS:
            self._notifications.notify(what)

    def _rung(self, what: str) -> None:
        if what in {EXPORTS_CHANGED, EVERYTHING}:
            self.worker.exports_changed()
        if what in {BACKFILL_STARTED, EVERYTHING}:
            self.backfill_loop.wake()
        if what == EVERYTHING:
            self.worker.wake_all()
        elif what.startswith(DUE):
            self.worker.wake(what.removeprefix(DUE))

    async def metrics(self) -> bytes:
        """Prometheus' text format."""
        self.meter.exports_stand(
            [
                Standing(
                    one.export.id,
                    one.export.state,
                    one.counts,
                    one.last_event_at,
                    one.oldest_pending_at,
                    is_silent=self.is_silent(one.export.id),
                )
                for one in await self.exports.reports()
            ],
            self.clock(),
        )
        self.meter.accounts_stand(self.accounts(), {label: pace.room_left() for label, pace in self._paces.items()})
        return self.meter.render()

    async def start(self) -> None:
        """Bring the database up to date and begin to work.

        Raises:
            BadSettings: people were erased, and without the key nothing would keep them out; or a newer version has
                used the database.
        """
        try:
            steps = await self._migrate()
        except BadSettings as error:
            self.refusal = error
            raise
        if steps:
            log.info("database migrated", steps=steps)
        await self._check_erasure_key()
        if self._notifications is not None:
            self._listening = asyncio.create_task(self._notifications.run())
        self.worker.start()
        self.is_started = True
        log.info("ready", version=__version__, accounts=sorted(self._sailthru), asks_lytics=self.lytics is not None)

    async def _migrate(self) -> list[str]:
        """Bring the database up to date; one that is not there yet is waited for, if it is a server.

        Raises:
            BadSettings: it can't be worked with.
        """
        deadline = asyncio.get_running_loop().time() + START_PATIENCE_SECONDS
        while True:
            try:
                if self._notifications is not None:
                    await self._notifications.connect()
                return await migrate(self.database, self._url)
            except StoreUnavailable as error:
                if not self.database.is_shared:
                    raise
                if asyncio.get_running_loop().time() > deadline:
                    raise BadSettings(
                        f"{error} The server that DATABASE_URL names did not serve us for a minute: see whether it "
                        "runs, and whether a dump or the like holds its tables, and run lytics-sailthru check."
                    ) from None
                log.warning("waits for the database", why=str(error))
                await asyncio.sleep(START_PAUSE_SECONDS)

    async def _look_at_accounts(self) -> timedelta:
        """Find out how accounts stand that other replicas call for."""
        for gate in self._gates.values():
            await gate.look()
        return LOOK_AT_ACCOUNTS

    async def _bring_back(self) -> timedelta:
        """Make due whoever waits for a time that only a wrong clock can have set; returns when to look again."""
        lease_for = max(each.lease_for for each in self.deliverers.values())
        longest_wait = max(self._policy.longest_wait, LONGEST_WINDOW) + lease_for
        brought = await self.members.correct_due_times(self.deliverers, longest_wait=longest_wait, lease_for=lease_for)
        if brought:
            log.warning("the clock was wrong: members were due too far ahead", members=brought)
        return timedelta(hours=1)

    async def _check_erasure_key(self) -> None:
        people = await self.erasures.ineffective()
        if people and not self._has_erasure_key:
            self.refusal = BadSettings(
                "ERASURE_KEY is not set, but people were erased with one and would come back: put it back or, if it is "
                "lost, set a new one and erase them again."
            )
            raise self.refusal
        if people:
            log.error(
                "erased people are not kept out, since another ERASURE_KEY is set than they were erased with",
                people=people,
                next_step="Put the former key back, or erase them again.",
            )

    async def drain(self) -> None:
        """Send new webhooks away, let calls in flight end, give leases back. Safe to call twice."""
        if not self.is_draining:
            self.is_draining = True
            log.info("draining")
            if self.lytics is not None:
                self.lytics.stop()
            await self.worker.stop()

    async def close(self) -> None:
        """Give back what was opened."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._notifications is not None:
            self._notifications.close()
        await asyncio.gather(*(client.aclose() for client in self._sailthru.values()))
        if self.lytics is not None:
            await self.lytics.aclose()
        await self.database.close()


def build(settings: Settings, outside: Environment | None = None, role: Role = Role.ALL) -> Service:
    """A service that is joined but not started.

    Raises:
        BadSettings: something it can't do without is missing, the database can't be opened, or it is none for several
            processes.
    """
    settings.require_for_serving()
    service = Service(settings, outside or Environment(), role)
    if role is not Role.ALL and not service.database.is_shared:
        raise BadSettings(
            "An SQLite file belongs to one process, which is `lytics-sailthru serve`: to part doors and workers, set "
            "DATABASE_URL to a PostgreSQL database."
        )
    return service


def create_app(settings: Settings, outside: Environment | None = None, role: Role = Role.ALL) -> FastAPI:
    """The whole service as one ASGI app, or a part of it; it starts and stops with the app's lifespan.

    Raises:
        BadSettings: see `build`.
    """
    service = build(settings, outside, role)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
            await service.drain()
        finally:
            await service.close()

    # No /docs: its page loads scripts from elsewhere. /openapi.json is behind a token, see below. No telemetry, which
    # would tell paths: one may hold an address.
    app = FastAPI(
        title="lytics-sailthru",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.state.webhooks = _webhook_intake(service, settings)
    app.state.dependencies = _dependencies(service, settings)
    of_all = (health_routes, openapi_routes)
    # Webhooks come first: the router tries its routes in order, and they are most of the traffic.
    of_doors = (
        webhook_routes,
        export_routes,
        starting_routes,
        backfill_routes,
        member_routes,
        erasure_routes,
        dead_letter_routes,
        rejected_event_routes,
        lytics_routes,
        authorization_routes,
    )
    for routes in of_all if role is Role.WORKER else (*of_doors, *of_all):
        app.include_router(routes.router)
    problems.install(app)
    app.add_middleware(AccessLog)
    return app


def _webhook_intake(service: Service, settings: Settings) -> WebhookIntake:
    return WebhookIntake(
        service.receiver.receive,
        service.rejected_events.record,
        [
            WebhookToken(label, token)
            for label, token in parse_tokens(settings.webhook_tokens, "WEBHOOK_TOKENS").items()
        ],
        service.meter,
        is_draining=lambda: service.is_draining,
        clock=service.clock,
    )


def _dependencies(service: Service, settings: Settings) -> Dependencies:
    return Dependencies(
        database=service.database,
        exports=service.exports,
        starter=service.starting,
        backfills=service.backfills,
        members=service.members,
        journal=service.journal,
        dead_letters=service.dead_letters,
        rejected_events=service.rejected_events,
        erasures=service.erasures,
        lytics=service.lytics,
        is_ready=lambda: service.is_ready,
        clock=service.clock,
        authorizations=service.authorizations,
        is_silent=service.is_silent,
        make_list=service.make_list,
        exports_changed=service.exports_changed,
        backfill_started=service.backfill_started,
        wake=service.wake,
        metrics=service.metrics,
        admin_tokens=parse_tokens(settings.admin_tokens, "ADMIN_TOKENS"),
        metrics_tokens=parse_tokens(settings.metrics_tokens, "METRICS_TOKENS"),
    )
