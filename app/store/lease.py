"""Leases: a claim holds a row until a time that it may extend. Each claim has its own token."""

import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_


def new_token() -> int:
    """Return a random token that fits a signed 64-bit column."""
    return secrets.randbits(62)


def is_over(until: datetime | None, now: datetime, length: timedelta) -> bool:
    """Return whether a lease no longer holds.

    A lease that ends more than two lengths ahead was set by a wrong clock and does not hold. A lease that ends
    slightly too late is valid. It was taken while this transaction waited for the row, or by a replica with another
    clock.
    """
    return until is None or not now < until <= now + 2 * length


def over(until: ColumnElement[datetime], now: datetime, length: timedelta) -> ColumnElement[bool]:
    """Return `is_over` as a condition on a column."""
    return or_(until.is_(None), until <= now, until > now + 2 * length)
