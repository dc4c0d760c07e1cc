"""The calls after an outage during which members change several times."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.sandbox.faults import Html
from app.sandbox.lytics import webhooks
from app.sandbox.rules import Rule, as_json
from tests.bench.bodies import address
from tests.bench.report import Log, Measured
from tests.bench.scene import BenchSandbox, scene
from tests.promises.processes import Service, until

PEOPLE, FLIPS, SECONDS = 400, 10, 12.0
OTHERS = [address(PEOPLE + n) for n in range(10)]
BEGAN = datetime.now(UTC) - timedelta(hours=1)


def calls_for_ten_flips(folder: Path, log: Log) -> Measured:
    """Let each member change ten times while Sailthru answers with 503.

    Four groups of equal size are on the list before and after, only before, only after, or never.
    """
    people = [address(n) for n in range(PEOPLE)]
    before, after = set(people[: PEOPLE // 2]), set(people[::2])
    with scene(folder / "flips") as (service, sandbox):
        _send(service, dict.fromkeys(before, True), BEGAN)
        service.wait_until_delivered()
        log("  Sailthru answers with 503 …")
        sandbox.control("faults", rules=as_json([Rule(Html(status=503))]))
        _send(service, dict.fromkeys(OTHERS, True), BEGAN)
        until(lambda: service.http.get("/health/ready").json()["accounts"]["default"], lambda state: state == "outage")
        earlier = _calls(sandbox, people)
        for flip in range(1, FLIPS + 1):
            is_last = (FLIPS - flip) % 2 == 0
            _send(service, {p: (p in after) == is_last for p in people}, BEGAN + timedelta(minutes=flip))
            time.sleep(SECONDS / FLIPS)
        log("  Sailthru works again.")
        sandbox.control("faults", rules=[])
        service.wait_until_delivered()
        calls = _calls(sandbox, people) - earlier
        listed = sandbox.members()
    per_member = calls.total() / PEOPLE
    return Measured(
        f"calls for {FLIPS} changes of each member during an outage",
        "≤ 1 each",
        f"{per_member:.2f} each",
        f"{calls.total()} calls, including probes, for {FLIPS * PEOPLE:,} changes of {PEOPLE} members",
        per_member <= 1 and listed == after | set(OTHERS),
    )


def _send(service: Service, people: dict[str, bool], at: datetime) -> None:
    """Send one webhook in which each of these people enters (True) or leaves."""
    moves = [webhooks.enter(p, at=at) if is_enter else webhooks.exit_(p, at=at) for p, is_enter in people.items()]
    service.send(moves).raise_for_status()


def _calls(sandbox: BenchSandbox, people: Sequence[str]) -> Counter[str]:
    """Return the number of reads and writes for each of these people."""
    calls_log = sandbox.account(with_log=True)["calls_log"]
    named = Counter(str(call["json"]["id"]) for call in calls_log if call["endpoint"] == "/user")
    return Counter({person: named[person] for person in people})
