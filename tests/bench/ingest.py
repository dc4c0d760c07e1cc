"""durable, how fast: answers a second to single webhooks, each sent when its commit is on disk."""

from pathlib import Path

from tests.bench.databases import maintain, on_disk
from tests.bench.doors import put, two_doors
from tests.bench.report import Measured, Say, ratio_of_rounds

ROUNDS, SECONDS = 5, 4.0


def durable_answers(folder: Path, say: Say) -> Measured:
    """Ours keep each event; the baseline's keep nothing."""
    return _ratio(folder, say, "durable answers ÷ the baseline's answers", 0.65)


def durable_answers_on_postgresql(folder: Path, say: Say) -> Measured:
    """The same, the server of the database on the other core."""
    with on_disk() as url:
        return _ratio(folder, say, "durable answers on PostgreSQL ÷ the baseline's answers", 0.55, url)


def _ratio(folder: Path, say: Say, what: str, target: float, url: str | None = None) -> Measured:
    with two_doors(folder, url) as doors:

        def per_second(port: int) -> float:
            found = put(port, SECONDS)
            return len(found.requests) / found.elapsed

        for port in (doors.service, doors.baseline):
            put(port, 1)
        if url is not None:
            maintain(url)
        return ratio_of_rounds(
            what,
            f"≥ {target}",
            lambda _: per_second(doors.service),
            lambda _: per_second(doors.baseline),
            say=say,
            rounds=ROUNDS,
            unit="/s",
            holds=lambda ratio: ratio >= target,
        )
