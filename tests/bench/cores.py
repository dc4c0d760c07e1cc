"""The core of each process: the service and the baseline have one, load and sandbox have another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MEASURED, AROUND = 0, 1


def usable() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_core(number: int | None) -> Iterator[None]:
    """Bind processes that are started meanwhile to one core.

    Without a number, or where the system cannot bind processes, they run on any core.
    """
    if number is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
