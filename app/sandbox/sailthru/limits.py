"""Rate limits of the calls of an account, per method, endpoint and calendar minute."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.sandbox.sailthru.accounts import Clock

MINUTE = 60

# Calls per minute by (method, endpoint). The endpoint "*" is the default.
Limits = Mapping[tuple[str, str], int]

DOCUMENTED_LIMITS: Limits = {
    ("POST", "/user"): 18_000,
    ("POST", "*"): 2_400,
    ("GET", "*"): 18_000,
    ("DELETE", "*"): 2_400,
}


@dataclass(frozen=True)
class Rate:
    """The values of the rate headers, and whether the call exceeds the limit.

    `reset` is the Unix time of the next window.
    """

    limit: int
    remaining: int
    reset: int
    is_exceeded: bool = False


class RateWindows:
    """The calls of all accounts in this minute. `limits` override the documented limits."""

    def __init__(self, limits: Limits, *, clock: Clock) -> None:
        self.limits = {**DOCUMENTED_LIMITS, **limits}
        self._clock = clock
        self._used: dict[tuple[str | None, str, str], tuple[int, int]] = {}

    def peek(self, account: str | None, method: str, endpoint: str) -> Rate:
        """Return the current state without counting a call."""
        limit, used, reset = self._window(account, method, endpoint)
        return Rate(limit, limit - used, reset)

    def count(self, account: str | None, method: str, endpoint: str) -> Rate:
        """Count one call, unless it exceeds the limit."""
        limit, used, reset = self._window(account, method, endpoint)
        if used >= limit:
            return Rate(limit, 0, reset, is_exceeded=True)
        self._used[account, method, endpoint] = (reset, used + 1)
        return Rate(limit, limit - used - 1, reset)

    def _window(self, account: str | None, method: str, endpoint: str) -> tuple[int, int, int]:
        limit = self.limits.get((method, endpoint), self.limits.get((method, "*"), 0))
        reset = (int(self._clock().timestamp()) // MINUTE + 1) * MINUTE
        window, used = self._used.get((account, method, endpoint), (reset, 0))
        return limit, used if window == reset else 0, reset
