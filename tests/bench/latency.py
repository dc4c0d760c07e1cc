"""durable, how soon: the slowest answers at rates that a service meets."""

from pathlib import Path
from statistics import quantiles

from tests.bench.doors import put, two_doors
from tests.bench.report import Measured, Say, ratio_of_rounds

ROUNDS, SECONDS = 5, 4.0
# Enough that a request never waits for a connection.
CONNECTIONS = 128


def slowest_answers_at_300(folder: Path, say: Say) -> Measured:
    """At Sailthru's own limit of calls."""
    return _slowest_answers(folder, say, rate=300, target=5)


def slowest_answers_at_1000(folder: Path, say: Say) -> Measured:
    return _slowest_answers(folder, say, rate=1000, target=7)


def _slowest_answers(folder: Path, say: Say, *, rate: int, target: float) -> Measured:
    """Measure p99 from the moment at which a request was to be sent; requests come at random moments."""
    with two_doors(folder) as doors:

        def p99(port: int) -> float:
            found = put(port, SECONDS, rate=rate, connections=CONNECTIONS)
            return quantiles([request.took for request in found.requests], n=100)[-1]

        for port in (doors.service, doors.baseline):
            p99(port)
        return ratio_of_rounds(
            f"p99 of the durable answer ÷ the baseline's, at {rate:,}/s",
            f"≤ {target:g}",
            lambda _: p99(doors.service),
            lambda _: p99(doors.baseline),
            say=say,
            rounds=ROUNDS,
            unit="ms",
            scale=1000,
            holds=lambda ratio: ratio <= target,
        )
