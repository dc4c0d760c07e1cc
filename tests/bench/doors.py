"""The service's door for webhooks beside that of the baseline, and load for them."""

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
from tests.bench.load import Found, Load
from tests.bench.scene import scene
from tests.promises.processes import ROOT, Process, free_port, is_up, until

# So many that neither door waits for the next request, and group commits are as large as under a real rush.
CONNECTIONS = 256
# Beyond this the generator may hold up what it measures.
BUSIEST = 0.8
_crowds = count(1)


@dataclass(frozen=True)
class Dependencies:
    """The ports of both."""

    service: int
    baseline: int


@contextmanager
def two_doors(folder: Path, url: str | None = None) -> Iterator[Dependencies]:
    """Both, on one core; Sailthru's limit is used up, so that the service only receives.

    Args:
        url: of the service's database; None for an SQLite file.
    """
    with scene(folder / "service", limit=1, url=url) as (service, _), baseline(folder) as port:
        yield Dependencies(service.port, port)


@contextmanager
def baseline(folder: Path) -> Iterator[int]:
    """The port of the baseline alone."""
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
) -> Found:
    """Load for one of the doors, by a process of its own on another core, of people that nobody has heard of.

    Raises:
        AssertionError: an answer was not the 200 that keeps all its events, or the generator was too busy.
    """
    people = next(_crowds) * 10_000_000
    load = Load(port, people, seconds, connections, events=events, rate=rate)
    with on_core(AROUND):
        program = [sys.executable, "-m", "tests.bench.load", json.dumps(asdict(load))]
        done = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = Found.from_json(done.stdout)
    for answer in found.answers:
        status, _, body = answer.partition(" ")
        assert status == "200", answer
        assert json.loads(body)["accepted"] == events, answer
    assert found.busy < BUSIEST, f"The generator used {found.busy:.0%} of its core."
    return found
