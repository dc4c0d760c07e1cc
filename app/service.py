"""The running service: migrates the database, starts, reports its state, drains and closes. `main` builds it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app import __version__
from app.alarms import Alarm, AlarmName, Alarms, Subject
from app.delivery.account import Account
from app.delivery.worker import Worker
from app.domain.account import AccountReport
from app.domain.errors import BadSettings, StoreUnavailable
from app.domain.export import Export
from app.exports.name import NEED_LIST, ExportNamer
from app.lytics.client import LyticsClient
from app.metrics import ExportGauges, Metrics
from app.signals import BACKFILL_QUEUED, EXPORTS_CHANGED, Signals, members_due
from app.store.backfills.backfills import Backfills
from app.store.database.engine import Database
from app.store.database.notifications import Notifications
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.history.rejected import RejectedEvents
from app.store.members.dead_letters import DeadLetters
from app.store.members.members import Members
from app.store.migrate import migrate

log = structlog.get_logger(__name__)

# The longest wait of a request for its export's list. The creation continues in the background.
LIST_PATIENCE = timedelta(seconds=10)
# The longest wait for PostgreSQL, which may be starting at the same time, and the wait between two attempts.
START_PATIENCE_SECONDS, START_RETRY_SECONDS = 60.0, 2.0


@dataclass(frozen=True, slots=True)
class Stores:
    """The parts of the store that routes and loops use."""

    exports: Exports
    members: Members
    backfills: Backfills
    journal: Journal
    dead_letters: DeadLetters
    rejected_events: RejectedEvents
    erasures: Erasures


class Service:
    """The service in one process, from start to close.

    Args:
        accounts: by label, in the order of the settings.
        notifications: wakes other replicas; None if no other process uses the database.
        has_erasure_key: ERASURE_KEY is set.
        lytics: None without LYTICS_API_TOKEN.
    """

    def __init__(
        self,
        database: Database,
        stores: Stores,
        accounts: Mapping[str, Account],
        worker: Worker,
        namer: ExportNamer,
        *,
        database_url: str,
        clock: Callable[[], datetime],
        signals: Signals,
        alarms: Alarms,
        metrics: Metrics,
        notifications: Notifications | None,
        lytics: LyticsClient | None,
        has_erasure_key: bool,
    ) -> None:
        self.database = database
        self.stores = stores
        self.exports = stores.exports
        self.accounts = accounts
        self.clock = clock
        self.alarms = alarms
        self.meter = metrics
        self.lytics = lytics
        self.is_started = self.is_draining = False
        # Set if the service did not start, because a setting conflicts with the contents of the database.
        self.refusal: BadSettings | None = None
        self._worker = worker
        self._namer = namer
        self._database_url = database_url
        self._signals = signals
        self._notifications = notifications
        self._listening: asyncio.Task[None] | None = None
        self._has_erasure_key = has_erasure_key

    @property
    def is_ready(self) -> bool:
        """True after start-up and until draining."""
        return self.is_started and not self.is_draining

    async def start(self) -> None:
        """Migrate the database and start the background loops.

        Raises:
            BadSettings: ERASURE_KEY is missing although members were erased with one; a newer version has used the
                database; or the database refuses the connection.
        """
        try:
            steps = await self._migrate_and_wait()
        except BadSettings as error:
            self.refusal = error
            raise
        if steps:
            log.info("database migrated", steps=steps)
        await self._check_erasure_key()
        if self._notifications is not None:
            self._listening = asyncio.create_task(self._notifications.run())
        self._worker.start()
        self.is_started = True
        log.info("ready", version=__version__, accounts=sorted(self.accounts), has_lytics_token=self.lytics is not None)

    async def drain(self) -> None:
        """Refuse new webhooks, wait for the calls in flight, and release leases. Safe to call twice."""
        if not self.is_draining:
            self.is_draining = True
            log.info("draining")
            if self.lytics is not None:
                self.lytics.stop()
            await self._worker.stop()

    async def close(self) -> None:
        """Close all connections."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._notifications is not None:
            self._notifications.close()
        await asyncio.gather(*(account.close() for account in self.accounts.values()))
        if self.lytics is not None:
            await self.lytics.aclose()
        await self.database.close()

    def exports_changed(self) -> None:
        """Wake the loops that name exports and apply orders to them."""
        self._signals.publish(EXPORTS_CHANGED)

    def backfill_started(self) -> None:
        """Wake the loop that runs backfills."""
        self._signals.publish(BACKFILL_QUEUED)

    def wake(self, account: str) -> None:
        """Wake the delivery loop of an account, because members are due."""
        self._signals.publish(members_due(account))

    async def make_list(self, export: Export) -> None:
        """Try to create an export's list for at most ten seconds. The background loop continues."""
        if export.state in NEED_LIST and export.list_ready_at is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._namer.make_list(export), LIST_PATIENCE.total_seconds())

    def authorizations(self) -> list[AccountReport]:
        """Return all accounts, in the order of the settings."""
        return [account.report() for account in self.accounts.values()]

    def is_silent(self, export_id: int) -> bool:
        """Return True while an export that received webhooks before receives none."""
        return self.alarms.is_raised(AlarmName.SILENT, Subject("export", export_id))

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self.meter.set_exports(
            [
                ExportGauges(
                    report.export.id,
                    report.export.state,
                    report.counts,
                    report.last_event_at,
                    report.oldest_pending_at,
                    is_silent=self.is_silent(report.export.id),
                )
                for report in await self.exports.reports()
            ],
            self.clock(),
        )
        for label, account in self.accounts.items():
            self.meter.set_account(label, is_open=account.breaker.is_open, calls_left=account.calls_left())
        return self.meter.render()

    async def _migrate_and_wait(self) -> list[str]:
        """Migrate the database. Wait for a database server that is not reachable yet.

        Raises:
            BadSettings: the database cannot be used.
        """
        deadline = asyncio.get_running_loop().time() + START_PATIENCE_SECONDS
        while True:
            try:
                if self._notifications is not None:
                    await self._notifications.connect()
                return await migrate(self.database, self._database_url)
            except StoreUnavailable as error:
                if not self.database.is_shared:
                    raise
                if asyncio.get_running_loop().time() > deadline:
                    raise BadSettings(
                        f"{error} Database unreachable for 60 s. Check that the server that DATABASE_URL names is "
                        "running, and that no dump or other tool locks its tables. Then run lytics-sailthru check."
                    ) from None
                log.warning("database unreachable, retrying", why=str(error))
                await asyncio.sleep(START_RETRY_SECONDS)

    async def _check_erasure_key(self) -> None:
        erasures = await self.stores.erasures.ineffective()
        if erasures and not self._has_erasure_key:
            self.refusal = BadSettings(
                "ERASURE_KEY is not set, but members were erased with a key, and their events would be stored again. "
                "Set the former key. If it is lost, set a new key and erase the members again."
            )
            raise self.refusal
        if erasures:
            self.alarms.raise_(
                Alarm(
                    AlarmName.ERASURE_KEY,
                    Subject("setting", "ERASURE_KEY"),
                    self.clock(),
                    "Events of erased members are stored again: the members were erased with another ERASURE_KEY.",
                    "Set the former key, or erase the members again.",
                    {"erasures": erasures},
                )
            )
