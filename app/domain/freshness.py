"""Freshness: how long changes take from acceptance to confirmation, counted in buckets.

An hour of any traffic fits into a few rows.
"""

import math
from collections.abc import Mapping
from datetime import timedelta

# Each bucket is a quarter wider than the one before; the first holds all up to ten milliseconds.
FIRST = 0.01
GROWTH = 1.25
# About ten years; longer durations count as that.
LAST_BUCKET = 108


def bucket_of(duration: timedelta) -> int:
    """Return the number of the bucket that holds this duration, 0 or more."""
    seconds = duration.total_seconds()
    return 0 if seconds <= FIRST else min(math.ceil(math.log(seconds / FIRST, GROWTH)), LAST_BUCKET)


def quantile(counts: Mapping[int, int], share: float) -> timedelta | None:
    """Return the duration within which this share of all changes lies, at most a quarter too long; None for none.

    Args:
        counts: by number of the bucket.
        share: above 0, up to 1.
    """
    target = share * sum(counts.values())
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if 0 < target <= seen:
            return timedelta(seconds=FIRST * GROWTH**bucket)
    return None
