"""Freshness: how long it took from a change being accepted to Sailthru being told, counted in buckets so that an hour
of any traffic fits into a few rows.
"""

import math
from collections.abc import Mapping
from datetime import timedelta

# Each bucket is a quarter wider than the one before; the first holds all up to ten milliseconds.
FIRST = 0.01
GROWTH = 1.25
# Some ten years: what takes longer counts as that.
LAST_BUCKET = 108


def bucket_of(duration: timedelta) -> int:
    """The number of the bucket that holds this duration, 0 or more."""
    seconds = duration.total_seconds()
    return 0 if seconds <= FIRST else min(math.ceil(math.log(seconds / FIRST, GROWTH)), LAST_BUCKET)


def quantile(counts: Mapping[int, int], share: float) -> timedelta | None:
    """The duration within which this share of all that was counted lies, at most a quarter too long; None for nothing.

    Args:
        counts: by number of the bucket.
        share: above 0, up to 1.
    """
    wanted = share * sum(counts.values())
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if 0 < wanted <= seen:
            return timedelta(seconds=FIRST * GROWTH**bucket)
    return None
