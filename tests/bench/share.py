"""within-limit: the use of our share of Sailthru's rate limit by a backlog, and the calls beyond the limit."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from app.sandbox.lytics import webhooks
from tests.bench.bodies import address
from tests.bench.report import Log, Measured, numbered
from tests.bench.scene import BenchSandbox, scene
from tests.promises.processes import Service

# Calls a minute. The sandbox logs this many calls, and two cores can make them. Sailthru's own limit is 18,000.
LIMIT, SHARE = 10_000, 0.8
MINUTES = 2
BATCH = 1_000


def use_of_our_share(folder: Path, log: Log) -> Measured:
    """Measure whole calendar minutes, as Sailthru counts them, with more members than calls."""
    used: list[int] = []
    with scene(folder / "share", limit=LIMIT) as (service, sandbox):
        _fill(service, people=LIMIT * (MINUTES + 2))
        log("  waiting for the next minute …")
        _sleep_until_the_next_minute()
        for _ in numbered(MINUTES, log):
            began = datetime.now(UTC).replace(second=0, microsecond=0)
            _sleep_until_the_next_minute()
            used.append(_calls_by_minute(sandbox)[began])
            log(f"  {used[-1]:,} calls")
        account = sandbox.account()
    ours = LIMIT * SHARE
    calls, refused = account["calls"]["POST /user"], sum(account["over_limit"].values())
    least = min(used) / ours
    return Measured(
        f"use of our share of {LIMIT:,} calls a minute with a backlog; calls answered with 429",
        "≥ 97 %; ≤ 1 in 100,000",
        f"{least:.1%}; {refused} in {calls:,}",
        f"{' and '.join(f'{n:,}' for n in used)} of {ours:,.0f} calls in whole minutes",
        least >= 0.97 and refused * 100_000 <= calls and max(used) <= ours,
    )


def _fill(service: Service, *, people: int) -> None:
    for first in range(0, people, BATCH):
        batch = [webhooks.enter(address(n), at=datetime.now(UTC)) for n in range(first, first + BATCH)]
        service.send(batch).raise_for_status()


def _sleep_until_the_next_minute() -> None:
    time.sleep(60 - time.time() % 60 + 1)


def _calls_by_minute(sandbox: BenchSandbox) -> Counter[datetime]:
    calls_log = sandbox.account(with_log=True)["calls_log"]
    times = [datetime.fromisoformat(call["time"]) for call in calls_log if call["endpoint"] == "/user"]
    return Counter(at.replace(second=0, microsecond=0) for at in times)
