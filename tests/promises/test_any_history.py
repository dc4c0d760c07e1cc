"""All promises at once, over any history that hypothesis can think of: see `tests/histories.py`."""

import os
import secrets

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories import Histories
from tests.sizes import size

# In parts, so that they can be shared out over processes. `make soak` asks for more of them.
PARTS = size(2, 6)
RUNS = int(os.environ.get("HISTORIES", size(24, 300, 10_000)))
STEPS = 50
# A database that is asked over a connection takes so much longer, and has its share of them.
SLOWER = {"sqlite": 1, "postgresql": 15}


@pytest.mark.timeout(36_000)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_the_promises_hold(part: int, kind: str) -> None:
    """Say HISTORIES_SEED to repeat a run that failed: it is printed with it."""
    seed = int(os.environ.get("HISTORIES_SEED", secrets.randbelow(2**32)))
    print(f"HISTORIES_SEED={seed}")  # noqa: T201 - pytest shows it where the test fails
    quiet = settings(
        max_examples=-(-RUNS // PARTS // SLOWER[kind]),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        # Every step is a life of its own kind; a shorter one is not looked for, since each look costs a second.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(hypothesis.seed(seed + part)(Histories), settings=quiet)
