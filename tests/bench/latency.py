"""durable, how soon: the slowest answers at half of the load that each door can take."""

from pathlib import Path
from statistics import median, quantiles

from tests.bench.doors import put, two_doors
from tests.bench.report import Measured, Say, numbered, ratio_of_rounds

PEAKS, ROUNDS, SECONDS = 3, 5, 4.0
# Enough that a request never waits for a connection.
CONNECTIONS = 128


def slowest_answers(folder: Path, say: Say) -> Measured:
    """p99 from the moment at which a request was to be sent, requests coming at random moments as from strangers."""
    with two_doors(folder) as doors:
        ports = (doors.service, doors.baseline)
        peaks: dict[int, list[float]] = {port: [] for port in ports}
        say("  first the peak of each")
        for _ in numbered(PEAKS, say):
            for port in ports:
                found = put(port, 1.5)
                peaks[port].append(len(found.requests) / found.elapsed)
        halves = {port: median(found) / 2 for port, found in peaks.items()}

        def p99(port: int) -> float:
            found = put(port, SECONDS, rate=halves[port], connections=CONNECTIONS)
            return quantiles([request.took for request in found.requests], n=100)[-1]

        return ratio_of_rounds(
            f"p99 of the durable answer at {halves[doors.service]:,.0f}/s "
            f"÷ the baseline's at {halves[doors.baseline]:,.0f}/s, half of the peak of each",
            "≤ 3",
            lambda _: p99(doors.service),
            lambda _: p99(doors.baseline),
            say=say,
            rounds=ROUNDS,
            unit="ms",
            scale=1000,
            holds=lambda ratio: ratio <= 3,
        )
