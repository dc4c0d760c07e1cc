"""Durations in buckets: exact to a quarter at any size."""

import random
from collections import Counter
from datetime import timedelta
from statistics import quantiles

import pytest

from app.domain.freshness import LAST_BUCKET, bucket_of, quantile


@pytest.mark.parametrize("seconds", [-5, 0, 0.001, 0.01, 0.0101, 0.3, 1, 59.9, 3600, 86400 * 30])
def test_duration_lies_in_its_bucket(seconds: float) -> None:
    """It is between the upper ends of the previous bucket and its own. A negative duration counts as zero."""
    bucket = bucket_of(timedelta(seconds=seconds))
    upper = quantile({bucket: 1}, 1)

    assert upper is not None
    assert upper.total_seconds() >= seconds * 0.999_999
    assert bucket == 0 or upper.total_seconds() <= seconds * 1.25


def test_longer_durations_count_in_the_last_bucket() -> None:
    assert bucket_of(timedelta(days=100_000)) == LAST_BUCKET


def test_quantiles_are_at_most_a_quarter_too_long() -> None:
    dice = random.Random(7)
    seconds = [dice.lognormvariate(0, 2) for _ in range(5000)]
    counts = Counter(bucket_of(timedelta(seconds=second)) for second in seconds)
    exact = quantiles(seconds, n=20)

    for share, true in ((0.5, exact[9]), (0.95, exact[18])):
        found = quantile(counts, share)
        assert found is not None
        assert true * 0.98 <= found.total_seconds() <= true * 1.27


def test_no_durations_have_no_quantile() -> None:
    assert quantile({}, 0.5) is None
