"""Keeps the calls of one account within our share of its limits: no call leaves that the budget has no room for."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from app.domain.errors import CallFailed, LimitReached, NotSent, Permanent, ShareUsedUp, StoreUnavailable
from app.domain.rate_limit.limiter import RateLimiter
from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.sailthru.client import Method
from app.sailthru.lists import Caller
from app.sailthru.protocol import RateLimit

Clock = Callable[[], datetime]

_MEMBERS: tuple[Method, str] = ("POST", "user")


def teach(budget: RateLimiter, clock: Clock) -> Callable[[Method, str, RateLimit], None]:
    """What a client calls with the rate limit of each of its answers, so that the budget follows it."""

    def learn(method: Method, endpoint: str, rate_limit: RateLimit) -> None:
        budget.learn(
            method,
            endpoint,
            limit=rate_limit.limit,
            remaining=rate_limit.remaining,
            resets_at=rate_limit.resets_at,
            now=clock(),
        )

    return learn


class Tokens(Protocol):
    """The budget of an account that several processes share."""

    async def take(self, account: str, endpoint: str, wish: ShareRequest) -> ShareGrant:
        """What one of them gets."""
        ...


class RateLimitedClient:
    """A `Caller` that asks the budget before each call.

    Args:
        client: makes the calls, and teaches the same budget.
        tokens: where the budget is shared with other processes, with the account's label.
        clock: aware, UTC.
        on_end: told the call, such as `POST user`, and how it ended: `ok`, Sailthru's error number, or a word of ours.
    """

    def __init__(
        self,
        client: Caller,
        budget: RateLimiter,
        *,
        clock: Clock,
        on_end: Callable[[str, str], None] = lambda _call, _answer: None,
        tokens: tuple[Tokens, str] | None = None,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._budget = budget
        self._clock = clock
        self._on_end = on_end
        self._an_end: dict[tuple[Method, str], asyncio.Event] = {}
        self._asking: defaultdict[tuple[Method, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def call(
        self, method: Method, endpoint: str, payload: Mapping[str, object], *, backfill: bool = False
    ) -> dict[str, object]:
        """The answer to one call. While an answer under way decides whether there is room, other calls than those that
        tell a member wait for it.

        Raises:
            OverBudget: there is no room, and nothing was sent.
            CallFailed: see `SailthruClient.call`.
        """
        await self._take(method, endpoint, backfill=backfill)
        was_sent = True
        try:
            answer = await self._counted(method, endpoint, payload)
        except LimitReached as error:
            self._budget.exhausted(method, endpoint, self._clock(), error.resets_at)
            raise
        except NotSent:
            was_sent = False
            raise
        except Permanent as error:
            was_sent = error.code != "unencodable"
            raise
        finally:
            self._budget.ended(method, endpoint, self._clock(), was_sent=was_sent)
            ended = self._an_end.pop((method, endpoint), None)
            if ended is not None:
                ended.set()
        return answer

    async def _counted(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        try:
            answer = await self._client.call(method, endpoint, payload)
        except CallFailed as failed:
            self._on_end(f"{method} {endpoint}", str(failed.code))
            raise
        self._on_end(f"{method} {endpoint}", "ok")
        return answer

    async def prepare(self, calls: int, *, backfill: bool = False) -> None:
        """Ask for room to tell so many members, where the budget is shared; of a backfill, and one besides.

        Raises:
            StoreUnavailable: how much is left is not known.
        """
        await self._ask(*_MEMBERS, calls, backfill=backfill)

    def for_backfills(self) -> Caller:
        """The same calls, counted as those of backfills: they leave room for live changes."""
        return _ForBackfills(self)

    def room(self, *, backfill: bool = False) -> int:
        """How many members may be told now, one call each."""
        return self._budget.room(*_MEMBERS, self._clock(), backfill=backfill)

    def opens_at(self, *, backfill: bool = False) -> datetime:
        """When it is worth asking for room again."""
        return self._budget.opens_at(*_MEMBERS, self._clock(), backfill=backfill)

    def budget_left(self) -> dict[str, int]:
        """The room to tell members, and of each other method and endpoint called so far, by names such as `POST
        user`.
        """
        now = self._clock()
        # Known from the first moment on, whether somebody was called for or not.
        self._budget.room(*_MEMBERS, now)
        return {f"{method} {endpoint}": room for method, endpoint, room in self._budget.left(now)}

    async def _ask(self, method: Method, endpoint: str, calls: int = 1, *, backfill: bool) -> None:
        if self._tokens is None:
            return
        tokens, account = self._tokens
        # One after the other: each wish tells what the one before has not told yet, and most find enough after it.
        async with self._asking[method, endpoint]:
            wish = self._budget.wish(method, endpoint, self._clock(), calls, backfill=backfill)
            if wish is not None:
                given = await tokens.take(account, f"{method} {endpoint}", wish)
                self._budget.granted(method, endpoint, self._clock(), wish, given)

    async def _take(self, method: Method, endpoint: str, *, backfill: bool) -> None:
        while True:
            try:
                await self._ask(method, endpoint, backfill=backfill)
            except StoreUnavailable:
                raise ShareUsedUp("over_budget", "How much is left of Sailthru's limit is not known.") from None
            if self._budget.take(method, endpoint, self._clock(), backfill=backfill):
                return
            now = self._clock()
            if (method, endpoint) == _MEMBERS or not self._budget.awaits_answer(method, endpoint, now):
                raise ShareUsedUp(
                    "over_budget",
                    "Our share of Sailthru's limit of calls is used up for now; waits until there is room again.",
                    resets_at=self._budget.opens_at(method, endpoint, now, backfill=backfill),
                )
            await self._an_end.setdefault((method, endpoint), asyncio.Event()).wait()


class _ForBackfills:
    def __init__(self, pace: RateLimitedClient) -> None:
        self._pace = pace

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        return await self._pace.call(method, endpoint, payload, backfill=True)
