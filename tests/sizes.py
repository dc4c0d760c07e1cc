"""The size of the test run: TEST_SIZE is `small` (`make test`), `full` (`make test-full`) or `soak` (`make soak`)."""

import os
from typing import TypeVar

T = TypeVar("T")

SIZES = ("small", "full", "soak")
TEST_SIZE = os.environ.get("TEST_SIZE", "small")
if TEST_SIZE not in SIZES:
    raise ValueError(f"TEST_SIZE is {TEST_SIZE!r}: use one of {', '.join(SIZES)}.")


def size(small: T, full: T, soak: T | None = None) -> T:
    """Return the value for the size of this run. Without a soak value, a soak uses the full value."""
    if TEST_SIZE == "small":
        return small
    return full if TEST_SIZE == "full" or soak is None else soak
