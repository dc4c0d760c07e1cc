"""The service and a sandbox as processes, for one round of a measurement."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.migrate import migrate
from tests.bench.cores import AROUND, MEASURED, on_core
from tests.bench.sandbox import secret_of
from tests.promises.processes import Process, Sandbox, Service, until

MAIN, OTHER = "demo-key", "other-key"


class BenchSandbox(Sandbox):
    """A sandbox with two accounts and the latency of the real Sailthru."""

    def __init__(self, folder: Path, *, limit: int = 18_000) -> None:
        self._limit = limit
        super().__init__(folder)

    def program(self, log: Path, latency: float) -> Process:
        """Return the sandbox program of the bench. It has its own latency."""
        ports = [str(self.port), str(self.lytics_port)]
        return Process([*ports, str(self._limit), MAIN, OTHER], {}, log, module="tests.bench.sandbox")

    def arrivals(self, key: str = MAIN) -> dict[str, float]:
        """Return the arrival of the first POST to `/user` by address, in seconds since 1970."""
        found: dict[str, float] = {}
        for call in self.account(key=key, with_log=True)["calls_log"]:
            if (call["method"], call["endpoint"]) == ("POST", "/user"):
                found.setdefault(call["json"]["id"], datetime.fromisoformat(call["time"]).timestamp())
        return found


@contextmanager
def scene(
    folder: Path,
    *,
    accounts: Sequence[str] = ("default",),
    limit: int = 18_000,
    url: str | None = None,
    sandbox_core: int | None = AROUND,
) -> Iterator[tuple[Service, BenchSandbox]]:
    """Run a service and a sandbox, with an export of the audience to each account. The lists exist.

    Args:
        accounts: the accounts that get an export.
        limit: Sailthru's rate limit, in calls a minute.
        url: the URL of an empty database; None for a new SQLite file.
        sandbox_core: the core of the sandbox; None for all cores.
    """
    folder.mkdir(parents=True)
    with on_core(sandbox_core):
        sandbox = BenchSandbox(folder, limit=limit)
    service = service_of(folder, sandbox, url)
    try:
        asyncio.run(start_exports(url or f"sqlite:///{service.database}", accounts))
        with on_core(MEASURED):
            service.start()
        until(lambda: service.http.get("/exports").json()["items"], lambda items: all(e["list_ready"] for e in items))
        yield service, sandbox
    finally:
        service.close()
        sandbox.close()


def service_of(folder: Path, sandbox: BenchSandbox, url: str | None) -> Service:
    """Return a service for both accounts of the sandbox. It is not started."""
    other = {
        "other": {"api_key": OTHER, "api_secret": secret_of(OTHER), "base_url": f"http://127.0.0.1:{sandbox.port}"}
    }
    return Service(
        folder,
        sandbox,
        SAILTHRU_API_KEY=MAIN,
        SAILTHRU_API_SECRET=secret_of(MAIN),
        SAILTHRU_AUTHORIZATIONS=json.dumps(other),
        SAILTHRU_TIMEOUT_SECONDS="15",
        LOG_LEVEL="WARNING",
        **({} if url is None else {"DATABASE_URL": url}),
    )


async def start_exports(url: str, accounts: Sequence[str]) -> None:
    """Create the current schema in a database, and export the audience to each account."""
    database = Database.open(url)
    try:
        await migrate(database, url)
        exports = Exports(database, lambda: datetime.now(UTC))
        for account in accounts:
            export = await exports.start(SPRING_BUYERS.id, audience_slug=SPRING_BUYERS.slug, account=account)
            await exports.name(export.id, SPRING_BUYERS.name, f"Lytics {SPRING_BUYERS.name}")
    finally:
        await database.close()


def send_steadily(service: Service, people: Sequence[str], *, per_second: float) -> dict[str, float]:
    """Send enters at a steady rate, and return the time of each by address, in seconds since 1970."""
    sent: dict[str, float] = {}
    begins = time.monotonic()
    for number, address in enumerate(people):
        time.sleep(max(0.0, begins + number / per_second - time.monotonic()))
        sent[address] = time.time()
        service.send(webhooks.enter(address, at=datetime.now(UTC))).raise_for_status()
    return sent
