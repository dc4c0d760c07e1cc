"""within-limit: how much of our share of Sailthru's limit a backlog uses, and how many calls are one too many."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from app.sandbox.lytics import webhooks
from tests.bench.bodies import address
from tests.bench.report import Measured, Say, numbered
from tests.bench.scene import BenchSandbox, scene
from tests.promises.processes import Service

# What fits into the sandbox's log of a minute, and two cores carry with ease; Sailthru's own is 18,000.
LIMIT, SHARE = 10_000, 0.8
MINUTES = 2
BATCH = 1_000


def use_of_our_share(folder: Path, say: Say) -> Measured:
    """Whole minutes of the clock, since Sailthru counts by them, with more people waiting than there is room for."""
    used: list[int] = []
    with scene(folder / "share", limit=LIMIT) as (service, sandbox):
        _fill(service, people=LIMIT * (MINUTES + 2))
        say("  waiting for a minute to begin …")
        _sleep_until_the_next_minute()
        for _ in numbered(MINUTES, say):
            began = datetime.now(UTC).replace(second=0, microsecond=0)
            _sleep_until_the_next_minute()
            used.append(_calls_by_minute(sandbox)[began])
            say(f"  {used[-1]:,} calls")
        account = sandbox.account()
    ours = LIMIT * SHARE
    calls, refused = account["calls"]["POST /user"], sum(account["over_limit"].values())
    least = min(used) / ours
    return Measured(
        f"use of our share of {LIMIT:,} calls a minute, with a backlog; 429s",
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
    log = sandbox.account(with_log=True)["calls_log"]
    moments = [datetime.fromisoformat(call["time"]) for call in log if call["endpoint"] == "/user"]
    return Counter(at.replace(second=0, microsecond=0) for at in moments)
