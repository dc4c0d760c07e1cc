"""The state is the queue: what an outage costs where people come and go while it lasts."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.sandbox.faults import Html
from app.sandbox.lytics import webhooks
from app.sandbox.rules import Rule, as_json
from tests.bench.bodies import address
from tests.bench.report import Measured, Say
from tests.bench.scene import BenchSandbox, scene
from tests.promises.processes import Service, until

PEOPLE, FLIPS, SECONDS = 400, 10, 12.0
OTHERS = [address(PEOPLE + n) for n in range(10)]
BEGAN = datetime.now(UTC) - timedelta(hours=1)


def calls_for_ten_flips(folder: Path, say: Say) -> Measured:
    """Everybody changes ten times while Sailthru answers with 503: a quarter each are on the list before and after,
    only before, only after, neither.
    """
    people = [address(n) for n in range(PEOPLE)]
    before, after = set(people[: PEOPLE // 2]), set(people[::2])
    with scene(folder / "flips") as (service, sandbox):
        _tell(service, dict.fromkeys(before, True), BEGAN)
        service.wait_until_told()
        say("  Sailthru begins to answer with 503 …")
        sandbox.tell("faults", rules=as_json([Rule(Html(status=503))]))
        _tell(service, dict.fromkeys(OTHERS, True), BEGAN)
        until(lambda: service.http.get("/health/ready").json()["accounts"]["default"], lambda state: state == "outage")
        earlier = _calls(sandbox, people)
        for flip in range(1, FLIPS + 1):
            is_last = (FLIPS - flip) % 2 == 0
            _tell(service, {p: (p in after) == is_last for p in people}, BEGAN + timedelta(minutes=flip))
            time.sleep(SECONDS / FLIPS)
        say("  … and is back.")
        sandbox.tell("faults", rules=[])
        service.wait_until_told()
        calls = _calls(sandbox, people) - earlier
        listed = sandbox.members()
    each = calls.total() / PEOPLE
    return Measured(
        f"calls for {FLIPS} flips of each person during an outage",
        "≤ 1 each",
        f"{each:.2f} each",
        f"{calls.total()} calls, probes among them, for {FLIPS * PEOPLE:,} changes of {PEOPLE} people",
        each <= 1 and listed == after | set(OTHERS),
    )


def _tell(service: Service, people: dict[str, bool], at: datetime) -> None:
    """Who enters, and who leaves, all in one webhook."""
    moves = [webhooks.enter(p, at=at) if is_enter else webhooks.exit_(p, at=at) for p, is_enter in people.items()]
    service.send(moves).raise_for_status()


def _calls(sandbox: BenchSandbox, people: Sequence[str]) -> Counter[str]:
    """How many calls came for each of these people, reads and writes."""
    log = sandbox.account(with_log=True)["calls_log"]
    named = Counter(str(call["json"]["id"]) for call in log if call["endpoint"] == "/user")
    return Counter({person: named[person] for person in people})
