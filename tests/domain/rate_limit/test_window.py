"""When a used-up rate limit resets."""

from datetime import datetime

import pytest

from app.domain.rate_limit.window import LONGEST_WINDOW, window_ends_at
from tests.factories import HOUR, MINUTE, NOON, SECOND


@pytest.mark.parametrize(
    ("resets_at", "expected"),
    [
        (None, NOON + LONGEST_WINDOW),
        (NOON + 20 * SECOND, NOON + 20 * SECOND),
        (NOON - HOUR, NOON + SECOND),
        (NOON, NOON + SECOND),
        (NOON + HOUR, NOON + MINUTE),
    ],
)
def test_used_up_limit_resets_within_a_minute(resets_at: datetime | None, expected: datetime) -> None:
    """Two clocks never agree: neither a past time nor a distant one is believed."""
    assert window_ends_at(resets_at, NOON) == expected
