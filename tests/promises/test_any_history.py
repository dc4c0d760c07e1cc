"""All promises at once, over random histories: see `tests/histories.py`."""

import os
import secrets

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories import Histories
from tests.sizes import size

# pytest can spread the parts over processes.
PARTS = size(2, 6)
RUNS = int(os.environ.get("HISTORIES", size(24, 300, 10_000)))
STEPS = 50
# Each statement on PostgreSQL needs a round trip, so it gets this many times fewer runs.
SLOWER = {"sqlite": 1, "postgresql": 15}


@pytest.mark.timeout(36_000)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("part", range(PARTS))
def test_promises_hold_in_random_histories(part: int, kind: str) -> None:
    """A failed run prints its seed. Set HISTORIES_SEED to repeat it."""
    seed = int(os.environ.get("HISTORIES_SEED", secrets.randbelow(2**32)))
    print(f"HISTORIES_SEED={seed}")  # noqa: T201 - pytest shows it where the test fails
    quiet = settings(
        max_examples=-(-RUNS // PARTS // SLOWER[kind]),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        # No shrinking, because each attempt would take a second.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(hypothesis.seed(seed + part)(Histories), settings=quiet)
