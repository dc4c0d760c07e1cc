"""Run all measurements with `python -m tests.bench`, or some with `python -m tests.bench ingest`."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from tests.bench import (
    arrays,
    claims,
    departure,
    flips,
    idle,
    ingest,
    isolation,
    latency,
    memory,
    replicas,
    settled,
    share,
)
from tests.bench.report import Log, Measured, show

ROWS: Mapping[str, Callable[[Path, Log], Measured]] = {
    "ingest": ingest.answers,
    "ingest-postgresql": ingest.answers_on_postgresql,
    "arrays": arrays.events_in_arrays,
    "claims": claims.claimed_and_settled,
    "latency-300": latency.slowest_answers_at_300,
    "latency-1000": latency.slowest_answers_at_1000,
    "departure": departure.from_accepted_to_call,
    "share": share.use_of_our_share,
    "flips": flips.calls_for_ten_flips,
    "memory": memory.peak_of_a_backfill,
    "settled": settled.beside_settled_members,
    "idle": idle.idle_cpu,
    "isolation": isolation.a_dead_account,
    "replicas": replicas.delivery_of_two,
}


def main(names: list[str]) -> int:
    """Run the named measurements, or all. Return 1 if a target is missed, 2 for an unknown name."""
    console = Console(highlight=False)
    unknown = sorted(set(names) - ROWS.keys())
    if unknown:
        console.print(f"Unknown: {', '.join(unknown)}. Use: {', '.join(ROWS)}.")
        return 2
    rows = []
    for name, measure in ROWS.items():
        if not names or name in names:
            console.print(f"Measuring {name} …")
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                rows.append(measure(Path(folder), console.print))
    show(console, rows)
    return 1 if any(row.is_missed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
