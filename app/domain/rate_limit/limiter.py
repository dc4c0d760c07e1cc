"""The rate limiter: which calls of one account may leave now, per method and endpoint."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from app.domain.rate_limit.bucket import Bucket
from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.domain.rate_limit.window import LONGEST_WINDOW, WINDOW_SECONDS

SHORTEST_WAIT = timedelta(milliseconds=50)


class RateLimiter:
    """Limits the calls of one process to one account.

    Call `release` once after each successful `acquire`. If the answer reports a limit, call `learn` before that.
    Times are aware. If our clock is set forward or back, calls wait for a minute at most.

    Args:
        share: our part of each limit, above 0, up to 1. It is never less than one call a minute.
        is_shared: True if other replicas call the same account. Each call then needs a permit, which this process gets
            with `request_share` and `receive_share`.
    """

    def __init__(self, share: float, *, is_shared: bool = False) -> None:
        self._share = share
        self._is_shared = is_shared
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def room(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> int:
        """Return how many calls may leave now. Until the limit is known, one call at a time may leave."""
        return self._bucket(method, endpoint, now).room(now.timestamp(), backfill=backfill)

    def acquire(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> bool:
        """Count one call and return True, or return False if it may not leave.

        A refused live call goes before all backfills.
        """
        return self._bucket(method, endpoint, now).acquire(now.timestamp(), backfill=backfill)

    def release(self, method: str, endpoint: str, now: datetime, *, was_sent: bool = True) -> None:
        """End a call, with or without an answer. A call that was not sent does not count."""
        self._bucket(method, endpoint, now).release(was_sent=was_sent)

    def learn(
        self, method: str, endpoint: str, *, limit: int, remaining: int, resets_at: datetime, now: datetime
    ) -> None:
        """Record what an answer reports: the limit, the remaining calls, and the window's end in Sailthru's clock.

        Answers may arrive in any order.
        """
        bucket = self._bucket(method, endpoint, now)
        bucket.learn(limit, limit - remaining, _window_end(resets_at), now.timestamp())

    def exhaust(self, method: str, endpoint: str, now: datetime, resets_at: datetime | None) -> None:
        """Record that a call was refused because the limit is used up. No call leaves until the window ends."""
        bucket = self._bucket(method, endpoint, now)
        bucket.exhaust(None if resets_at is None else resets_at.timestamp(), now.timestamp())

    def request_share(
        self, method: str, endpoint: str, now: datetime, count: int = 1, *, backfill: bool = False
    ) -> ShareRequest | None:
        """Return the request for `count` calls; with `backfill`, it includes one live call.

        None if the limit is not shared, if there are enough permits, or if there is no room.
        """
        bucket = self._bucket(method, endpoint, now)
        return bucket.request_share(now.timestamp(), count, backfill=backfill) if self._is_shared else None

    def receive_share(
        self, method: str, endpoint: str, now: datetime, request: ShareRequest, grant: ShareGrant
    ) -> None:
        """Record the grant that answers a request."""
        self._bucket(method, endpoint, now).receive_share(request, grant, now.timestamp())

    def opens_at(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> datetime:
        """Return when to ask for room again: now if there is room, otherwise within a minute."""
        bucket, at = self._bucket(method, endpoint, now), now.timestamp()
        if bucket.room_in_window(at, backfill=backfill) > 0:
            return max(now, datetime.fromtimestamp(bucket.asks_again_at, UTC))
        wait = timedelta(seconds=bucket.opens_at(at, backfill=backfill) - at)
        return now + min(max(wait, SHORTEST_WAIT), LONGEST_WINDOW)

    def awaits_answer(self, method: str, endpoint: str, now: datetime) -> bool:
        """Return whether the answer to a call in flight decides how many more calls may leave."""
        return self._bucket(method, endpoint, now).awaits_answer(now.timestamp())

    def room_left(self, now: datetime) -> Iterator[tuple[str, str, int]]:
        """Yield method, endpoint and room for live calls of each endpoint called so far. Permits are not considered."""
        for method, endpoint in self._buckets:
            room = self._bucket(method, endpoint, now).room_in_window(now.timestamp(), backfill=False)
            yield method, endpoint, room

    def _bucket(self, method: str, endpoint: str, now: datetime) -> Bucket:
        bucket = self._buckets.get((method, endpoint))
        if bucket is None:
            bucket = Bucket(self._share, now.timestamp(), is_shared=self._is_shared)
            self._buckets[method, endpoint] = bucket
        bucket.advance(now.timestamp())
        return bucket


def _window_end(resets_at: datetime) -> float:
    """Return the end rounded to a minute, so that an imprecise end does not start another window."""
    return round(resets_at.astimezone(UTC).timestamp() / WINDOW_SECONDS) * WINDOW_SECONDS
