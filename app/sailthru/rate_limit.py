"""Keeps the calls of one account within our share of Sailthru's rate limits."""

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

_MEMBER_WRITES: tuple[Method, str] = ("POST", "user")


def learn_from_headers(limiter: RateLimiter, clock: Clock) -> Callable[[Method, str, RateLimit], None]:
    """Return an `on_rate_limit` for `SailthruClient` that passes the headers of each answer to the limiter."""

    def learn(method: Method, endpoint: str, rate_limit: RateLimit) -> None:
        limiter.learn(
            method,
            endpoint,
            limit=rate_limit.limit,
            remaining=rate_limit.remaining,
            resets_at=rate_limit.resets_at,
            now=clock(),
        )

    return learn


class Shares(Protocol):
    """Rate limits that several replicas share."""

    async def take(self, account: str, endpoint: str, request: ShareRequest, /) -> ShareGrant: ...


class RateLimitedClient:
    """A `Caller` that asks the rate limiter before each call.

    Args:
        client: makes the calls. The same limiter learns from its headers.
        clock: aware, UTC.
        on_end: called with the call, such as `POST user`, and its result: `ok`, Sailthru's error number or our code.
        shares: the limits shared with other replicas and the account's label; None if there are no other replicas.
    """

    def __init__(
        self,
        client: Caller,
        limiter: RateLimiter,
        *,
        clock: Clock,
        on_end: Callable[[str, str], None] = lambda _call, _answer: None,
        shares: tuple[Shares, str] | None = None,
    ) -> None:
        self._client = client
        self._shares = shares
        self._limiter = limiter
        self._clock = clock
        self._on_end = on_end
        self._next_end: dict[tuple[Method, str], asyncio.Event] = {}
        self._requesting: defaultdict[tuple[Method, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def call(
        self, method: Method, endpoint: str, payload: Mapping[str, object], *, backfill: bool = False
    ) -> dict[str, object]:
        """Make one call and return its answer.

        If the room depends on an answer in flight, the call waits for that answer. Member writes do not wait, because
        their queue asks again.

        Raises:
            ShareUsedUp: there is no room, and nothing was sent.
            CallFailed: see `SailthruClient.call`.
        """
        await self._acquire(method, endpoint, backfill=backfill)
        was_sent = True
        try:
            return await self._call_and_count(method, endpoint, payload)
        except LimitReached as error:
            self._limiter.exhaust(method, endpoint, self._clock(), error.resets_at)
            raise
        except NotSent:
            was_sent = False
            raise
        except Permanent as error:
            was_sent = error.code != "unencodable"
            raise
        finally:
            self._limiter.release(method, endpoint, self._clock(), was_sent=was_sent)
            ended = self._next_end.pop((method, endpoint), None)
            if ended is not None:
                ended.set()

    async def prepare(self, calls: int, *, backfill: bool = False) -> None:
        """Request shares for this many member writes; with `backfill`, also for one live write.

        Raises:
            StoreUnavailable: the shared limits cannot be read.
        """
        await self._request_share(*_MEMBER_WRITES, calls, backfill=backfill)

    def for_backfills(self) -> Caller:
        """Return a caller whose calls count as backfill calls, which leave room for live changes."""
        return _BackfillClient(self)

    def room(self, *, backfill: bool = False) -> int:
        """Return the number of member writes that may leave now."""
        return self._limiter.room(*_MEMBER_WRITES, self._clock(), backfill=backfill)

    def opens_at(self, *, backfill: bool = False) -> datetime:
        """Return when to ask for room again."""
        return self._limiter.opens_at(*_MEMBER_WRITES, self._clock(), backfill=backfill)

    def room_left(self) -> dict[str, int]:
        """Return the room for `POST user` and for each other call made so far, by name."""
        now = self._clock()
        self._limiter.room(*_MEMBER_WRITES, now)
        return {f"{method} {endpoint}": room for method, endpoint, room in self._limiter.room_left(now)}

    async def _call_and_count(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        try:
            answer = await self._client.call(method, endpoint, payload)
        except CallFailed as error:
            self._on_end(f"{method} {endpoint}", str(error.code))
            raise
        self._on_end(f"{method} {endpoint}", "ok")
        return answer

    async def _request_share(self, method: Method, endpoint: str, calls: int = 1, *, backfill: bool) -> None:
        if self._shares is None:
            return
        shares, account = self._shares
        # One request at a time, so that no call is reported twice. Most later requests then find enough permits.
        async with self._requesting[method, endpoint]:
            request = self._limiter.request_share(method, endpoint, self._clock(), calls, backfill=backfill)
            if request is not None:
                grant = await shares.take(account, f"{method} {endpoint}", request)
                self._limiter.receive_share(method, endpoint, self._clock(), request, grant)

    async def _acquire(self, method: Method, endpoint: str, *, backfill: bool) -> None:
        while True:
            try:
                await self._request_share(method, endpoint, backfill=backfill)
            except StoreUnavailable:
                raise ShareUsedUp(
                    "over_budget", "The rate limit that replicas share cannot be read: the database is unavailable."
                ) from None
            if self._limiter.acquire(method, endpoint, self._clock(), backfill=backfill):
                return
            now = self._clock()
            if (method, endpoint) == _MEMBER_WRITES or not self._limiter.awaits_answer(method, endpoint, now):
                raise ShareUsedUp(
                    "over_budget",
                    "Our share of Sailthru's rate limit is used up. The call waits until there is room.",
                    resets_at=self._limiter.opens_at(method, endpoint, now, backfill=backfill),
                )
            await self._next_end.setdefault((method, endpoint), asyncio.Event()).wait()


class _BackfillClient:
    def __init__(self, client: RateLimitedClient) -> None:
        self._client = client

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        return await self._client.call(method, endpoint, payload, backfill=True)
