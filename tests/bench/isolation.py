"""isolated: the delay that a dead account causes in another account."""

from pathlib import Path
from statistics import quantiles

from app.sandbox.faults import Hang
from app.sandbox.rules import Rule, as_json
from tests.bench.report import Log, Measured, ratio_of_rounds
from tests.bench.scene import MAIN, OTHER, scene, send_steadily
from tests.promises.processes import until

PEOPLE, PER_SECOND, ROUNDS = 300, 50, 5


def a_dead_account(folder: Path, log: Log) -> Measured:
    """Measure p95 from the webhook to the arrival of its call, while another account is dead or alive.

    Both accounts have the same members and get 50 webhooks a second.
    """
    dead = as_json([Rule(Hang(applied=False), api_keys=frozenset({OTHER}))])

    def p95(name: str, *, is_dead: bool) -> float:
        with scene(folder / name, accounts=("default", "other")) as (service, sandbox):
            send_steadily(service, [f"warm{n}@example.com" for n in range(50)], per_second=PER_SECOND)
            if is_dead:
                sandbox.control("faults", rules=dead)
            people = [f"person{n}@example.com" for n in range(PEOPLE)]
            sent = send_steadily(service, people, per_second=PER_SECOND)
            arrived = until(lambda: sandbox.arrivals(MAIN), lambda found: found.keys() >= sent.keys())
            return quantiles([arrived[address] - at for address, at in sent.items()], n=20)[-1]

    return ratio_of_rounds(
        "p95 of an account while another one is dead ÷ while it is alive",
        "≤ 1.1",
        lambda n: p95(f"dead{n}", is_dead=True),
        lambda n: p95(f"alive{n}", is_dead=False),
        log=log,
        rounds=ROUNDS,
        unit="ms",
        scale=1000,
        holds=lambda ratio: ratio <= 1.1,
    )
