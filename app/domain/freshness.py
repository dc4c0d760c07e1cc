"""Freshness: how long changes take from acceptance to confirmation, counted in buckets.

The buckets of an hour fit into a few rows, for any number of changes.
"""

import math
from collections.abc import Mapping
from datetime import timedelta

# The upper end of each bucket is a quarter above the previous one. The first bucket ends at ten milliseconds.
FIRST = 0.01
GROWTH = 1.25
# About ten years. Longer durations count in this bucket.
LAST_BUCKET = 108


def bucket_of(duration: timedelta) -> int:
    """Return the number of the bucket that holds this duration, 0 or more."""
    seconds = duration.total_seconds()
    return 0 if seconds <= FIRST else min(math.ceil(math.log(seconds / FIRST, GROWTH)), LAST_BUCKET)


def quantile(counts: Mapping[int, int], share: float) -> timedelta | None:
    """Return the duration within which this share of changes was confirmed; None without changes.

    The result is at most a quarter too long.

    Args:
        counts: number of changes by bucket.
        share: above 0, up to 1.
    """
    target = share * sum(counts.values())
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if 0 < target <= seen:
            return timedelta(seconds=FIRST * GROWTH**bucket)
    return None
