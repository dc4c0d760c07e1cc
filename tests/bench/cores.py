"""Binds processes to cores: the service and the baseline share one, load and sandbox share another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MEASURED, AROUND = 0, 1


def usable() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_core(number: int | None) -> Iterator[None]:
    """Bind processes that start within the context to one core.

    If the number is None or the system cannot bind processes, they run on any core.
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
