"""The CPU time of an idle service."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from app.sandbox.lytics import webhooks
from tests.bench.bodies import address
from tests.bench.report import Log, Measured
from tests.bench.scene import scene

PEOPLE, SETTLE_SECONDS, SECONDS = 1_000, 5.0, 20.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def idle_cpu(folder: Path, log: Log) -> Measured:
    """Measure a service with one export. All its members are delivered."""
    with scene(folder / "idle") as (service, _):
        service.send([webhooks.enter(address(n), at=datetime.now(UTC)) for n in range(PEOPLE)]).raise_for_status()
        service.wait_until_delivered()
        assert service.process.running is not None
        log(f"  {PEOPLE:,} members are delivered; the service idles for {SECONDS:.0f} seconds …")
        time.sleep(SETTLE_SECONDS)
        used = _cpu_seconds(service.process.running.pid)
        time.sleep(SECONDS)
        used = _cpu_seconds(service.process.running.pid) - used
    return Measured(
        "CPU of an idle service",
        "< 1 % of a core",
        f"{used / SECONDS:.2%}",
        f"{used * 1000:.0f} ms in {SECONDS:.0f} s, {PEOPLE:,} members settled",
        used / SECONDS < 0.01,
    )


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of all threads of a process. This needs Linux.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
