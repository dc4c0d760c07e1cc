"""Durations in buckets: exact to a quarter, whatever their size."""

import random
from collections import Counter
from datetime import timedelta
from statistics import quantiles

import pytest

from app.domain.freshness import LAST_BUCKET, bucket_of, quantile


@pytest.mark.parametrize("seconds", [-5, 0, 0.001, 0.01, 0.0101, 0.3, 1, 59.9, 3600, 86400 * 30])
def test_a_duration_lies_in_its_bucket(seconds: float) -> None:
    """Between its upper end and that of the bucket before; a clock that was set back counts as no time at all."""
    bucket = bucket_of(timedelta(seconds=seconds))
    upper = quantile({bucket: 1}, 1)

    assert upper is not None
    assert upper.total_seconds() >= seconds * 0.999_999
    assert bucket == 0 or upper.total_seconds() <= seconds * 1.25


def test_nothing_takes_longer_than_the_last_bucket() -> None:
    assert bucket_of(timedelta(days=100_000)) == LAST_BUCKET


def test_quantiles_are_close_to_the_true_ones() -> None:
    """A quarter too long at most."""
    dice = random.Random(7)
    seconds = [dice.lognormvariate(0, 2) for _ in range(5000)]
    counts = Counter(bucket_of(timedelta(seconds=one)) for one in seconds)
    exact = quantiles(seconds, n=20)

    for share, true in ((0.5, exact[9]), (0.95, exact[18])):
        found = quantile(counts, share)
        assert found is not None
        assert true * 0.98 <= found.total_seconds() <= true * 1.27


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile({}, 0.5) is None
