"""How much work the tests do: `TEST_SIZE` is `small` (the default), `full` or `soak`."""

import os
from typing import TypeVar

Value = TypeVar("Value")


def size(small: Value, full: Value, soak: Value | None = None) -> Value:
    """Return the value for the current TEST_SIZE; without a value of its own, `soak` is as large as `full`."""
    values = {"small": small, "full": full, "soak": full if soak is None else soak}
    return values[os.environ.get("TEST_SIZE", "small")]
