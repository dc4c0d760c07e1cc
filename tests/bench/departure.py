"""The time from an accepted change to its call, without faults."""

from pathlib import Path
from statistics import median, quantiles

from tests.bench.bodies import address
from tests.bench.endpoints import put
from tests.bench.report import Log, Measured, numbered, spread
from tests.bench.scene import scene
from tests.promises.processes import until

ROUNDS, WARM_SECONDS, SECONDS, PER_SECOND = 3, 2.0, 10.0, 200


def from_accepted_to_call(folder: Path, log: Log) -> Measured:
    """Measure from the sender's receipt of the 200 to the arrival of the call at Sailthru."""
    middles: list[float] = []
    slowest: list[float] = []
    for number in numbered(ROUNDS, log):
        cuts = quantiles(_waits(folder / str(number)), n=20)
        middles.append(cuts[9] * 1000)
        slowest.append(cuts[-1] * 1000)
        log(f"  p50 {middles[-1]:.1f} ms, p95 {slowest[-1]:.1f} ms")
    p50, p95 = median(middles), median(slowest)
    return Measured(
        f"from the answer 200 to the arrival of the call, at {PER_SECOND} webhooks/s",
        "p50 ≤ 6 ms, p95 ≤ 20 ms",
        f"{p50:.1f} ms, {p95:.1f} ms",
        f"p50 {spread(middles, 'ms')}, p95 {spread(slowest, 'ms')}",
        p50 <= 6 and p95 <= 20,
    )


def _waits(folder: Path) -> list[float]:
    """Return the seconds from the answer 200 to the call, for each person."""
    with scene(folder) as (service, sandbox):
        put(service.port, WARM_SECONDS, rate=PER_SECOND)
        result = put(service.port, SECONDS, rate=PER_SECOND)
        accepted = {address(request.person): request.at + request.took for request in result.requests}
        arrived = until(sandbox.arrivals, lambda calls: calls.keys() >= accepted.keys())
    return [arrived[person] - at for person, at in accepted.items()]
