"""The webhook endpoints of the service and of the baseline, and load for them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import httpx

from tests.bench.cores import AROUND, MEASURED, on_core
from tests.bench.load import Load, LoadResult
from tests.bench.scene import scene
from tests.promises.processes import ROOT, Process, free_port, is_up, until

# Enough connections, so that neither endpoint waits for requests and group commits are as large as under real load.
CONNECTIONS = 256
# A load generator that uses more of its core may slow down what it measures.
MAX_BUSY = 0.8
_loads = count(1)


@dataclass(frozen=True)
class Ports:
    service: int
    baseline: int


@contextmanager
def both_endpoints(folder: Path, url: str | None = None) -> Iterator[Ports]:
    """Run the service and the baseline on one core. Sailthru's rate limit is used up, so the service only receives.

    Args:
        url: the URL of the service's database; None for an SQLite file.
    """
    with scene(folder / "service", limit=1, url=url) as (service, _), baseline(folder) as port:
        yield Ports(service.port, port)


@contextmanager
def baseline(folder: Path) -> Iterator[int]:
    """Run the baseline alone, and return its port."""
    port = free_port()
    with on_core(MEASURED):
        process = Process([str(port)], {}, folder / "baseline.log", module="tests.bench.serving").start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            until(lambda: is_up(client, "/openapi.json"), bool)
        yield port
    finally:
        process.end()


def put(
    port: int, seconds: float, *, events: int = 1, connections: int = CONNECTIONS, rate: float | None = None
) -> LoadResult:
    """Send load with new people to one endpoint, from another process on another core.

    Raises:
        AssertionError: an answer was not a 200 that accepts all events, or the generator was too busy.
    """
    people = next(_loads) * 10_000_000
    load = Load(port, people, seconds, connections, events=events, rate=rate)
    with on_core(AROUND):
        program = [sys.executable, "-m", "tests.bench.load", json.dumps(asdict(load))]
        done = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    result = LoadResult.from_json(done.stdout)
    for answer in result.answers:
        status, _, body = answer.partition(" ")
        assert status == "200", answer
        assert json.loads(body)["accepted"] == events, answer
    assert result.busy < MAX_BUSY, f"The load generator used {result.busy:.0%} of its core."
    return result
