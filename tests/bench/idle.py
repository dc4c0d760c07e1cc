"""What the service costs while nothing happens."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from app.sandbox.lytics import webhooks
from tests.bench.bodies import address
from tests.bench.report import Measured, Say
from tests.bench.scene import scene

PEOPLE, SETTLE_SECONDS, SECONDS = 1_000, 5.0, 20.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def idle_cpu(folder: Path, say: Say) -> Measured:
    """With an export whose people have all been told."""
    with scene(folder / "idle") as (service, _):
        service.send([webhooks.enter(address(n), at=datetime.now(UTC)) for n in range(PEOPLE)]).raise_for_status()
        service.wait_until_told()
        assert service.process.running is not None
        say(f"  {PEOPLE:,} people are told, now {SECONDS:.0f} seconds of nothing …")
        time.sleep(SETTLE_SECONDS)
        used = _cpu_seconds(service.process.running.pid)
        time.sleep(SECONDS)
        used = _cpu_seconds(service.process.running.pid) - used
    return Measured(
        "CPU of an idle service",
        "< 1 % of a core",
        f"{used / SECONDS:.2%}",
        f"{used * 1000:.0f} ms in {SECONDS:.0f} s, {PEOPLE:,} people settled",
        used / SECONDS < 0.01,
    )


def _cpu_seconds(pid: int) -> float:
    """What all threads of a process have used; needs Linux. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
