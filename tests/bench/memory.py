"""What a backfill holds in memory, however large the audience is."""

import re
import time
from pathlib import Path
from typing import Any

from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests.bench.report import Measured, Say, ratio_of_rounds
from tests.bench.scene import scene

FEW, MANY = 10_000, 1_000_000
SAY_EVERY_SECONDS = 30
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def peak_of_a_backfill(folder: Path, say: Say) -> Measured:
    """The peak of the service's resident memory in a dry run over so many people; one round, since the long one takes
    minutes.
    """

    def peak(people: int) -> float:
        with scene(folder / str(people)) as (service, sandbox):
            sandbox.lytics.post("members", json={"audience": SPRING_BUYERS.id, "generate": people}).raise_for_status()
            service.http.post("/exports/1/backfills", json={"dry_run": True}).raise_for_status()
            confirmed_at = time.monotonic()
            while True:
                run: dict[str, Any] = service.http.get("/exports/1/backfills/1").raise_for_status().json()
                if run["ended_at"] is not None:
                    break
                if time.monotonic() > confirmed_at + SAY_EVERY_SECONDS:
                    confirmed_at = time.monotonic()
                    say(f"  {run['scanned']:,} of {people:,} people, {run['rate'] or 0:,.0f} a second …")
                time.sleep(0.5)
            assert (run["state"], run["queued"]) == ("completed", people), run
            assert service.process.running is not None
            status = Path(f"/proc/{service.process.running.pid}/status").read_text()
            found = PEAK.search(status)
            assert found is not None, "This needs Linux' /proc."
            return int(found[1]) / 1024

    return ratio_of_rounds(
        f"peak memory of a backfill of {MANY:,} ÷ {FEW:,}",
        "≤ 1.2",
        lambda _: peak(MANY),
        lambda _: peak(FEW),
        say=say,
        rounds=1,
        unit="MB",
        holds=lambda ratio: ratio <= 1.2,
    )
