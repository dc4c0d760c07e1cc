"""durable: events per second in arrays of a hundred."""

from pathlib import Path

from tests.bench.endpoints import both_endpoints, put
from tests.bench.report import Log, Measured, ratio_of_rounds

ROUNDS, SECONDS = 5, 3.0
EVENTS, CONNECTIONS = 100, 8


def events_in_arrays(folder: Path, log: Log) -> Measured:
    """Compare arrays with the baseline, which gets single webhooks and stores nothing."""
    with both_endpoints(folder) as ports:

        def service(_: int) -> float:
            result = put(ports.service, SECONDS, events=EVENTS, connections=CONNECTIONS)
            return EVENTS * len(result.requests) / result.elapsed

        def baseline(_: int) -> float:
            result = put(ports.baseline, SECONDS)
            return len(result.requests) / result.elapsed

        put(ports.service, 1, events=EVENTS, connections=CONNECTIONS)
        put(ports.baseline, 1)
        return ratio_of_rounds(
            "durable events in arrays of 100 ÷ the baseline's answers",
            "≥ 2",
            service,
            baseline,
            log=log,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= 2,
        )
