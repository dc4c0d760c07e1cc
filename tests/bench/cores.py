"""Which core a process runs on: what is measured has one, all that it is measured with another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MEASURED, AROUND = 0, 1


def how_many() -> int:
    """The cores that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_core(number: int | None) -> Iterator[None]:
    """Processes that are started meanwhile stay on this one of the cores that we may use; anywhere, where it is None or
    the system can't be told.
    """
    if number is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(ours)[number % len(ours)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
