"""durable: events a second in arrays of a hundred."""

from pathlib import Path

from tests.bench.endpoints import both_endpoints, put
from tests.bench.report import Log, Measured, ratio_of_rounds

ROUNDS, SECONDS = 5, 3.0
EVENTS, CONNECTIONS = 100, 8


def events_in_arrays(folder: Path, log: Log) -> Measured:
    """The service stores each event of the array. The baseline gets single webhooks and stores nothing."""
    with both_endpoints(folder) as ports:

        def service(_: int) -> float:
            found = put(ports.service, SECONDS, events=EVENTS, connections=CONNECTIONS)
            return EVENTS * len(found.requests) / found.elapsed

        def baseline(_: int) -> float:
            found = put(ports.baseline, SECONDS)
            return len(found.requests) / found.elapsed

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
