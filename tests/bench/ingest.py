"""durable: answers to single webhooks per second. Each answer follows the commit to disk."""

from pathlib import Path

from tests.bench.databases import maintain, on_disk
from tests.bench.endpoints import both_endpoints, put
from tests.bench.report import Log, Measured, ratio_of_rounds

ROUNDS, SECONDS = 5, 4.0


def answers(folder: Path, log: Log) -> Measured:
    """Measure with SQLite. The baseline stores nothing."""
    return _ratio(folder, log, "durable answers ÷ the baseline's answers", 0.65)


def answers_on_postgresql(folder: Path, log: Log) -> Measured:
    """Measure with a PostgreSQL server on the other core."""
    with on_disk() as url:
        return _ratio(folder, log, "durable answers on PostgreSQL ÷ the baseline's answers", 0.55, url)


def _ratio(folder: Path, log: Log, name: str, target: float, url: str | None = None) -> Measured:
    with both_endpoints(folder, url) as ports:

        def per_second(port: int) -> float:
            result = put(port, SECONDS)
            return len(result.requests) / result.elapsed

        for port in (ports.service, ports.baseline):
            put(port, 1)
        if url is not None:
            maintain(url)
        return ratio_of_rounds(
            name,
            f"≥ {target}",
            lambda _: per_second(ports.service),
            lambda _: per_second(ports.baseline),
            log=log,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= target,
        )
