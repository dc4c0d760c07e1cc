"""durable: the slowest answers to webhooks at realistic rates."""

from pathlib import Path
from statistics import quantiles

from tests.bench.endpoints import both_endpoints, put
from tests.bench.report import Log, Measured, ratio_of_rounds

ROUNDS, SECONDS = 5, 4.0
# Enough connections, so that no request waits for one.
CONNECTIONS = 128


def slowest_answers_at_300(folder: Path, log: Log) -> Measured:
    """Measure at the rate of Sailthru's own limit of calls."""
    return _slowest_answers(folder, log, rate=300, target=5)


def slowest_answers_at_1000(folder: Path, log: Log) -> Measured:
    return _slowest_answers(folder, log, rate=1000, target=7)


def _slowest_answers(folder: Path, log: Log, *, rate: int, target: float) -> Measured:
    """Measure p99 from the scheduled time of each request. The times are random."""
    with both_endpoints(folder) as ports:

        def p99(port: int) -> float:
            result = put(port, SECONDS, rate=rate, connections=CONNECTIONS)
            return quantiles([request.took for request in result.requests], n=100)[-1]

        for port in (ports.service, ports.baseline):
            p99(port)
        return ratio_of_rounds(
            f"p99 of the durable answers ÷ of the baseline's answers, at {rate:,}/s",
            f"≤ {target:g}",
            lambda _: p99(ports.service),
            lambda _: p99(ports.baseline),
            log=log,
            rounds=ROUNDS,
            unit="ms",
            scale=1000,
            holds=lambda ratio: ratio <= target,
        )
