"""Composition of the service: `build` connects its parts, and `create_app` adds the routes."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import httpx
from fastapi import FastAPI

from app import __version__
from app.alarms import Alarms, log_alarm
from app.backfills.loop import BackfillLoop
from app.backfills.scan import Backfiller
from app.delivery.account import Account
from app.delivery.chores import correct_due_times, read_breakers
from app.delivery.circuit_breaker import IN_FLIGHT_FACTOR, CircuitBreaker
from app.delivery.deliver import Deliverer
from app.delivery.loop import LONGEST_SLEEP, AccountLoop
from app.delivery.worker import Worker
from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.resolve import Resolver
from app.domain.retry import RetryPolicy
from app.exports.lists import ListMaker
from app.exports.monitor import ListMonitor
from app.exports.name import ExportNamer
from app.exports.start import ExportStarter
from app.lytics.address import usable_address
from app.lytics.client import LyticsClient
from app.lytics.webhook import WebhookToken
from app.metrics import Metrics
from app.receive import Receiver
from app.sailthru.client import SailthruClient
from app.sailthru.lists import Lists
from app.sailthru.protocol import Credentials
from app.sailthru.rate_limit import RateLimitedClient, learn_from_headers
from app.sailthru.rules import RULES
from app.service import Service, Stores
from app.settings import DEFAULT_ACCOUNT, Settings, parse_tokens
from app.signals import BACKFILL_QUEUED, Signals, members_due
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

# How often a replica polls for changes of other replicas, in case a notification was lost.
DUE_POLL_INTERVAL, ORDERS_POLL_INTERVAL = timedelta(seconds=15), timedelta(seconds=30)


class Role(StrEnum):
    """The work of a process: all of it, only the HTTP routes, or only the background loops."""

    ALL = "all"
    WEB = "web"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Environment:
    """The outside world of the service. Tests replace its parts.

    Args:
        clock: returns the time, aware and in UTC; None for the clock that all users of the database share.
        draw: returns a random number from 0 to 1.
        sailthru: returns the transport of one connection to the account with a given label; None for real connections.
        lytics: the transport to Lytics; None for a real connection.
    """

    clock: Callable[[], datetime] | None = None
    draw: Callable[[], float] = random.random
    sailthru: Callable[[str], httpx.AsyncBaseTransport] | None = None
    lytics: httpx.AsyncBaseTransport | None = None


@dataclass(frozen=True, slots=True)
class Common:
    """The parts that all accounts share."""

    settings: Settings
    environment: Environment
    clock: Callable[[], datetime]
    database: Database
    stores: Stores
    metrics: Metrics
    alarms: Alarms
    signals: Signals
    policy: RetryPolicy

    @property
    def timeout(self) -> timedelta:
        """The time limit of one request to Sailthru."""
        return timedelta(seconds=self.settings.sailthru_timeout_seconds)


def build(settings: Settings, environment: Environment | None = None, role: Role = Role.ALL) -> Service:
    """Build a service without starting it.

    Raises:
        BadSettings: a required setting is missing, the database cannot be opened, or the role needs a database that
            several processes can share.
    """
    settings.require_for_serving()
    environment = environment or Environment()
    database = Database.open(settings.database_url)
    if role is not Role.ALL and not database.is_shared:
        raise BadSettings(
            "An SQLite file belongs to one process, `lytics-sailthru serve`. To run routes and workers in different "
            "processes, set DATABASE_URL to a PostgreSQL database."
        )
    clock = environment.clock or database.clock
    metrics = Metrics(__version__)
    common = Common(
        settings=settings,
        environment=environment,
        clock=clock,
        database=database,
        stores=_stores(database, clock, settings, metrics),
        metrics=metrics,
        alarms=Alarms(sinks=(log_alarm,)),
        signals=Signals(),
        policy=RetryPolicy(
            first_wait=timedelta(seconds=settings.retry_first_wait_seconds),
            longest_wait=timedelta(seconds=settings.retry_longest_wait_seconds),
            window=timedelta(hours=settings.retry_window_hours),
        ),
    )
    accounts = {label: _account(label, credentials, common) for label, credentials in _credentials(settings).items()}
    lytics = _lytics(settings, environment, metrics, clock)
    list_makers = {label: account.list_maker for label, account in accounts.items()}
    namer = ExportNamer(common.stores.exports, lytics, list_makers, RULES)
    notifications = database.notifications(partial(_publish_notification, common.signals))
    if notifications is not None and role is Role.WEB:
        common.signals.forward_to(notifications.notify)
    return Service(
        database,
        common.stores,
        accounts,
        _worker(common, accounts, namer, lytics, has_worker=role is not Role.WEB),
        namer,
        database_url=settings.database_url,
        clock=clock,
        signals=common.signals,
        alarms=common.alarms,
        metrics=metrics,
        notifications=notifications,
        lytics=lytics,
        has_erasure_key=settings.erasure_key is not None,
    )


def _publish_notification(signals: Signals, topic: str) -> None:
    if topic == EVERYTHING:
        signals.publish_all_locally()
    else:
        signals.publish_locally(topic)


def _stores(database: Database, clock: Callable[[], datetime], settings: Settings, metrics: Metrics) -> Stores:
    key = settings.erasure_key
    digests = Digests(key.get_secret_value()) if key is not None else None
    resolver = Resolver(usable_address, auto_export=DEFAULT_ACCOUNT if settings.auto_export else None)
    return Stores(
        exports=Exports(database, clock),
        members=Members(database, clock, resolver=resolver, digests=digests, on_commit=metrics.committed),
        backfills=Backfills(database, clock, digests=digests),
        journal=Journal(database),
        dead_letters=DeadLetters(database, clock),
        rejected_events=RejectedEvents(database, on_commit=metrics.committed),
        erasures=Erasures(database, clock, digests),
    )


def _credentials(settings: Settings) -> dict[str, Credentials]:
    return {
        label: Credentials(account.api_key, account.api_secret, account.base_url)
        for label, account in settings.accounts().items()
    }


def _account(label: str, credentials: Credentials, common: Common) -> Account:
    """Build all parts of one account, from its connections to its delivery loop."""
    settings, environment, clock = common.settings, common.environment, common.clock
    is_shared = common.database.is_shared
    limiter = RateLimiter(settings.sailthru_rate_share, is_shared=is_shared)
    client = SailthruClient(
        credentials,
        lanes=IN_FLIGHT_FACTOR * settings.sailthru_concurrency,
        timeout=common.timeout,
        transport=partial(environment.sailthru, label) if environment.sailthru is not None else None,
        on_rate_limit=learn_from_headers(limiter, clock),
    )
    limited = RateLimitedClient(
        client,
        limiter,
        clock=clock,
        on_end=partial(common.metrics.called, label),
        shares=(SharedLimits(common.database), label) if is_shared else None,
    )
    lists = Lists(limited, limited.for_backfills())
    list_maker = ListMaker(label, lists, common.stores.exports, timeout=common.timeout)
    breaker = CircuitBreaker(
        label,
        Accounts(common.database),
        clock,
        common.alarms,
        concurrency=settings.sailthru_concurrency,
        throttle=limited,
        is_shared=is_shared,
    )
    deliverer = Deliverer(
        lists,
        common.stores.members,
        list_maker,
        common.metrics,
        breaker,
        policy=common.policy,
        timeout=common.timeout,
        clock=clock,
        draw=environment.draw,
    )
    longest_sleep = DUE_POLL_INTERVAL if is_shared else LONGEST_SLEEP
    loop = AccountLoop(label, common.stores.members, deliverer, breaker, clock, longest_sleep=longest_sleep)
    return Account(
        label, credentials.base_url, lists, list_maker, breaker, deliverer, loop, limited.room_left, client.aclose
    )


def _lytics(
    settings: Settings, environment: Environment, metrics: Metrics, clock: Callable[[], datetime]
) -> LyticsClient | None:
    token = settings.lytics_api_token
    if not token:
        return None
    return LyticsClient(
        token.get_secret_value(),
        settings.lytics_base_url,
        transport=environment.lytics,
        on_end=metrics.lytics_called,
        draw=environment.draw,
        clock=clock,
    )


def _worker(
    common: Common, accounts: dict[str, Account], namer: ExportNamer, lytics: LyticsClient | None, *, has_worker: bool
) -> Worker:
    """Build the background loops.

    Args:
        has_worker: this process delivers and runs backfills.
    """
    stores, settings, clock = common.stores, common.settings, common.clock
    is_shared = common.database.is_shared
    shared_chores = Chores(common.database, clock)
    monitor = ListMonitor(
        stores.exports,
        {label: account.destination for label, account in accounts.items()},
        clock,
        common.alarms,
        silent_after=timedelta(hours=settings.silent_after_hours) if settings.silent_after_hours else None,
        may_check_lists=partial(shared_chores.take_turn, "lists") if is_shared else None,
    )
    retention = Retention(common.database, clock, settings.journal_days, shared_chores if is_shared else None)
    chores = {"monitor": monitor.run}
    if is_shared:
        chores["breakers"] = partial(read_breakers, accounts.values())
    if has_worker:
        chores["retention"] = retention.prune
        chores["clock"] = partial(correct_due_times, accounts.values(), common.policy, stores.members.correct_due_times)
    backfills: BackfillLoop | None = None
    if has_worker:
        backfiller = Backfiller(
            stores.exports,
            stores.backfills,
            lytics,
            usable_address=usable_address,
            wake=lambda account: common.signals.publish(members_due(account)),
            clock=clock,
        )
        backfills = BackfillLoop(stores.backfills, backfiller)
        common.signals.subscribe(BACKFILL_QUEUED, backfills.wake)
    return Worker(
        stores.members,
        {label: account.loop for label, account in accounts.items()} if has_worker else {},
        common.signals,
        unfinished_exports=stores.exports.unfinished,
        name_exports=namer.run,
        # A call, after a read or the creation of a list.
        drain_patience=3 * common.timeout,
        chores=chores,
        backfills=backfills,
        poll_interval=ORDERS_POLL_INTERVAL if is_shared else None,
    )


def create_app(settings: Settings, environment: Environment | None = None, role: Role = Role.ALL) -> FastAPI:
    """Build the ASGI app. The service starts and stops with the app's lifespan.

    Raises:
        BadSettings: see `build`.
    """
    service = build(settings, environment, role)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
            await service.drain()
        finally:
            await service.close()

    # The built-in pages stay off: /docs loads scripts from another host, and our own /openapi.json needs a token.
    # Telemetry stays off, because it records paths, and a path may contain an address.
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
    common_routes = (health_routes, openapi_routes)
    # Webhooks are most of the traffic, and the router tries its routes in order.
    web_routes = (
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
    for routes in common_routes if role is Role.WORKER else (*web_routes, *common_routes):
        app.include_router(routes.router)
    problems.install(app)
    app.add_middleware(AccessLog)
    return app


def _webhook_intake(service: Service, settings: Settings) -> WebhookIntake:
    receiver = Receiver(service.stores.members.receive, wake=service.wake, on_new_export=service.exports_changed)
    tokens = parse_tokens(settings.webhook_tokens, "WEBHOOK_TOKENS")
    return WebhookIntake(
        receiver.receive,
        service.stores.rejected_events.record,
        [WebhookToken(label, token) for label, token in tokens.items()],
        service.meter,
        is_draining=lambda: service.is_draining,
        clock=service.clock,
    )


def _dependencies(service: Service, settings: Settings) -> Dependencies:
    stores = service.stores
    return Dependencies(
        database=service.database,
        exports=stores.exports,
        starter=ExportStarter(stores.exports, service.lytics, service.accounts.keys(), RULES),
        backfills=stores.backfills,
        members=stores.members,
        journal=stores.journal,
        dead_letters=stores.dead_letters,
        rejected_events=stores.rejected_events,
        erasures=stores.erasures,
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
