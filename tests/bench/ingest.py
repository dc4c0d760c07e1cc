"""
durable, how fast: answers a second to single webhooks, each sent when its commit is on disk.
"""

from pathlib import Path

from tests.bench.doors import put, two_doors
from tests.bench.report import Measured, Say, ratio_of_rounds

ROUNDS, SECONDS = 5, 4.0


def durable_answers(folder: Path, say: Say) -> Measured:
    """
    Ours keep each event; the baseline's keep nothing.
    """
    with two_doors(folder) as doors:

        def per_second(port: int) -> float:
            found = put(port, SECONDS)
            return len(found.requests) / found.elapsed

        for port in (doors.service, doors.baseline):
            put(port, 1)
        return ratio_of_rounds(
            "durable answers ÷ the baseline's answers",
            "≥ 1.2",
            lambda _: per_second(doors.service),
            lambda _: per_second(doors.baseline),
            say=say,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= 1.2,
        )
