"""Periodic chores of delivery. Each returns when it is due again."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import structlog

from app.delivery.account import Account
from app.domain.rate_limit.window import LONGEST_WINDOW
from app.domain.retry import RetryPolicy

log = structlog.get_logger(__name__)

LOOK_AT_BREAKERS = timedelta(seconds=15)
CORRECT_EVERY = timedelta(hours=1)


async def read_breakers(accounts: Iterable[Account]) -> timedelta:
    """Read what other replicas found about the accounts, also in a process that does not deliver."""
    for account in accounts:
        await account.breaker.look()
    return LOOK_AT_BREAKERS


async def correct_due_times(
    accounts: Iterable[Account], policy: RetryPolicy, correct: Callable[..., Awaitable[int]]
) -> timedelta:
    """Make members due whose due time is so far ahead that a wrong clock must have set it.

    Args:
        correct: corrects the due times of some accounts; returns how many members it corrected.
    """
    by_label = {account.label: account for account in accounts}
    lease_for = max(account.deliverer.lease_for for account in by_label.values())
    longest_wait = max(policy.longest_wait, LONGEST_WINDOW) + lease_for
    corrected = await correct(by_label, longest_wait=longest_wait, lease_for=lease_for)
    if corrected:
        log.warning("the clock was wrong: members were due too far ahead", members=corrected)
    return CORRECT_EVERY
