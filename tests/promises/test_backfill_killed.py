"""Backfill with real processes: SIGKILL at random moments loses no member, and no member joins twice."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from app.sandbox.lytics import SCAN
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.sandbox.lytics.people import address_of
from tests.promises.kinds import sqlite_in_small_runs
from tests.promises.processes import Service, running, until
from tests.sizes import size

kind = sqlite_in_small_runs()

KILLS = size(1, 2, 10)
PEOPLE = {"sqlite": size(600, 2500), "postgresql": size(400, 1200)}


def test_backfill_killed_at_random_moments_continues_from_its_last_page(tmp_path: Path, kind: str) -> None:
    """The next process continues the backfill after the lease. Each kill repeats at most one page."""
    dice = random.Random(KILLS)
    people = PEOPLE[kind]
    # Fewer concurrent calls slow the backfill down, so that it does not end before the last kill.
    with running(tmp_path, SAILTHRU_CONCURRENCY="8") as (service, sandbox):
        sandbox.lytics.post("members", json={"audience": SPRING_BUYERS.id, "generate": people}).raise_for_status()
        body = {"audience": SPRING_BUYERS.id, "existing_users": True}
        service.http.post("/exports", json=body).raise_for_status()
        for number in range(KILLS):
            scanned = (number + 1) * people // (KILLS + 2)
            until(lambda: read_backfill(service)["scanned"], scanned.__le__)
            time.sleep(dice.random() / 5)
            service.process.kill()
            service.start()
        done = until(lambda: read_backfill(service), lambda b: b["ended_at"])
        export = service.wait_until_delivered()
        joins = Counter(sandbox.joins())
        reads = sandbox.lytics.get("state").json()["calls"][f"GET {SCAN}"]

        assert (done["state"], done["queued"]) == ("completed", people)
        assert sandbox.members() == {address_of(number) for number in range(people)}
        assert export["counts"]["delivered"] == people
        assert reads <= people // 100 + KILLS
        assert set(joins.values()) == {1}


def read_backfill(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get("/exports/1/backfills/1").raise_for_status().json()
    return found
