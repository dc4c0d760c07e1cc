"""Periodic chores of delivery. Each returns the interval until its next run."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import structlog

from app.delivery.account import Account
from app.domain.rate_limit.window import LONGEST_WINDOW
from app.domain.retry import RetryPolicy

log = structlog.get_logger(__name__)

BREAKER_READ_INTERVAL = timedelta(seconds=15)
CORRECTION_INTERVAL = timedelta(hours=1)


async def read_breakers(accounts: Iterable[Account]) -> timedelta:
    """Refresh all circuit breakers from the store, also in a process that does not deliver."""
    for account in accounts:
        await account.breaker.refresh()
    return BREAKER_READ_INTERVAL


async def correct_due_times(
    accounts: Iterable[Account], policy: RetryPolicy, correct: Callable[..., Awaitable[int]]
) -> timedelta:
    """Make a member due if its due time is too far in the future. Only a wrong clock can have set such a time.

    Args:
        correct: corrects the due times in the given accounts; returns the number of corrected members.
    """
    by_label = {account.label: account for account in accounts}
    lease_for = max(account.deliverer.lease_for for account in by_label.values())
    longest_wait = max(policy.longest_wait, LONGEST_WINDOW) + lease_for
    corrected = await correct(by_label, longest_wait=longest_wait, lease_for=lease_for)
    if corrected:
        log.warning("due times too far in the future were corrected: check the clock", members=corrected)
    return CORRECTION_INTERVAL
