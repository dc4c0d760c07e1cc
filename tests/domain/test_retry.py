"""Retries: the time of the next call, and the end of the retry window."""

from datetime import datetime, timedelta

import pytest

from app.domain.retry import RetryPolicy
from tests.factories import HOUR, NOON, SECOND

POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("attempts", "draw", "seconds"),
    [
        (1, 0.0, 5),
        (1, 1.0, 3.75),
        (2, 0.0, 10),
        (3, 0.5, 17.5),
        (10, 0.0, 2560),
        (11, 0.0, 3600),
        (11, 1.0, 2700),
        (10_000, 0.0, 3600),
    ],
)
def test_wait_doubles_up_to_longest_less_up_to_a_quarter(attempts: int, draw: float, seconds: float) -> None:
    """Members that failed together are spread out."""
    at = POLICY.next_attempt_at(attempts=attempts, failed_at=NOON, draw=draw)

    assert at == NOON + timedelta(seconds=seconds)


def test_first_wait_is_at_most_the_longest() -> None:
    policy = RetryPolicy(first_wait=2 * HOUR, longest_wait=HOUR)

    assert policy.next_attempt_at(attempts=1, failed_at=NOON, draw=0.0) == NOON + HOUR


@pytest.mark.parametrize(
    ("first_failed_at", "is_over"),
    [
        (None, False),
        (NOON, False),
        (NOON - 76 * HOUR + SECOND, False),
        (NOON - 76 * HOUR, True),
        (NOON - 100 * HOUR, True),
    ],
)
def test_change_is_given_up_after_whole_window(first_failed_at: datetime | None, is_over: bool) -> None:
    """The window starts at the first failed attempt, not when the change was accepted."""
    assert POLICY.is_over(first_failed_at=first_failed_at, now=NOON) is is_over


def test_member_is_retried_for_at_least_76_hours() -> None:
    """This holds for every random number."""
    at, attempts = NOON, 1
    while not POLICY.is_over(first_failed_at=NOON, now=at):
        at, attempts = POLICY.next_attempt_at(attempts=attempts, failed_at=at, draw=1.0), attempts + 1

    assert NOON + 76 * HOUR <= at < NOON + 77 * HOUR
