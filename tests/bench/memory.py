"""The memory of a backfill, which must not grow with the audience."""

import re
import time
from pathlib import Path
from typing import Any

from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests.bench.report import Log, Measured, ratio_of_rounds
from tests.bench.scene import scene

FEW, MANY = 10_000, 1_000_000
LOG_EVERY_SECONDS = 30
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def peak_of_a_backfill(folder: Path, log: Log) -> Measured:
    """Compare the peak of resident memory in two dry runs. There is one round, because the long run takes minutes."""

    def peak(people: int) -> float:
        with scene(folder / str(people)) as (service, sandbox):
            sandbox.lytics.post("members", json={"audience": SPRING_BUYERS.id, "generate": people}).raise_for_status()
            service.http.post("/exports/1/backfills", json={"dry_run": True}).raise_for_status()
            logged_at = time.monotonic()
            while True:
                run: dict[str, Any] = service.http.get("/exports/1/backfills/1").raise_for_status().json()
                if run["ended_at"] is not None:
                    break
                if time.monotonic() > logged_at + LOG_EVERY_SECONDS:
                    logged_at = time.monotonic()
                    log(f"  {run['scanned']:,} of {people:,} people, {run['rate'] or 0:,.0f} a second …")
                time.sleep(0.5)
            assert (run["state"], run["queued"]) == ("completed", people), run
            assert service.process.running is not None
            status = Path(f"/proc/{service.process.running.pid}/status").read_text()
            found = PEAK.search(status)
            assert found is not None, "This measurement needs /proc of Linux."
            return int(found[1]) / 1024

    return ratio_of_rounds(
        f"peak memory of a backfill of {MANY:,} people ÷ of {FEW:,}",
        "≤ 1.2",
        lambda _: peak(MANY),
        lambda _: peak(FEW),
        log=log,
        rounds=1,
        unit="MB",
        holds=lambda ratio: ratio <= 1.2,
    )
