"""durable, in arrays: events a second where each request brings a hundred."""

from pathlib import Path

from tests.bench.doors import put, two_doors
from tests.bench.report import Measured, Say, ratio_of_rounds

ROUNDS, SECONDS = 5, 3.0
EVENTS, CONNECTIONS = 100, 8


def events_in_arrays(folder: Path, say: Say) -> Measured:
    """Ours keep each event of the array; the baseline takes single webhooks and keeps nothing."""
    with two_doors(folder) as doors:

        def ours(_: int) -> float:
            found = put(doors.service, SECONDS, events=EVENTS, connections=CONNECTIONS)
            return EVENTS * len(found.requests) / found.elapsed

        def base(_: int) -> float:
            found = put(doors.baseline, SECONDS)
            return len(found.requests) / found.elapsed

        put(doors.service, 1, events=EVENTS, connections=CONNECTIONS)
        put(doors.baseline, 1)
        return ratio_of_rounds(
            "durable events in arrays of 100 ÷ the baseline's answers",
            "≥ 2",
            ours,
            base,
            say=say,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= 2,
        )
