"""Backfill, by real processes: kill -9 at random moments of one backfill loses nobody and joins nobody twice."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from app.sandbox.lytics import SCAN
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.sandbox.lytics.people import address_of
from tests.promises.processes import Service, running, until
from tests.sizes import size

KILLS = size(1, 2, 10)
PEOPLE = {"sqlite": size(600, 2500), "postgresql": size(400, 1200)}


def test_killed_at_random_moments_it_goes_on_from_its_last_page(tmp_path: Path, kind: str) -> None:
    """Whoever comes after takes it over once the lease is over; at most one page is read twice for each kill."""
    dice = random.Random(KILLS)
    people = PEOPLE[kind]
    # Slow enough for all kills to come before its end: Sailthru allows fewer calls a minute than a backfill could make.
    with running(tmp_path, SAILTHRU_CONCURRENCY="8") as (service, sandbox):
        sandbox.lytics.post("members", json={"audience": SPRING_BUYERS.id, "generate": people}).raise_for_status()
        order = {"audience": SPRING_BUYERS.id, "existing_users": True}
        service.http.post("/exports", json=order).raise_for_status()
        for number in range(KILLS):
            scanned = (number + 1) * people // (KILLS + 2)
            until(lambda: backfill(service)["scanned"], scanned.__le__)
            time.sleep(dice.random() / 5)
            service.process.kill()
            service.start()
        done = until(lambda: backfill(service), lambda b: b["ended_at"])
        export = service.wait_until_told()
        joins = Counter(sandbox.joins())
        reads = sandbox.lytics.get("state").json()["calls"][f"GET {SCAN}"]

        assert (done["state"], done["queued"]) == ("completed", people)
        assert sandbox.members() == {address_of(number) for number in range(people)}
        assert export["counts"]["delivered"] == people
        assert reads <= people // 100 + KILLS
        assert set(joins.values()) == {1}


def backfill(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get("/exports/1/backfills/1").raise_for_status().json()
    return found
