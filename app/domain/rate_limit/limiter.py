"""TODO."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from app.domain.rate_limit.bucket import _Bucket
from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.domain.rate_limit.window import _WINDOW, _Window
from app.domain.retry import LONGEST_WINDOW

# Asking more often than this gains nothing.
SHORTEST_WAIT = timedelta(milliseconds=50)


class RateLimiter:
    """What one process may call of one account.

    Every `take` that gave true is followed by one `ended`, and by one `learn` before it where the answer told a limit.
    Times are aware; a clock that is set forth or back costs at most a minute.

    Args:
        share: of each limit that is ours, above 0, up to 1; never less than one call a minute.
        is_shared: with other processes: each call takes a token, which is asked for by a `wish` and comes with a
            `granted`.
    """

    def __init__(self, share: float, *, is_shared: bool = False) -> None:
        self._share = share
        self._is_shared = is_shared
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def room(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> int:
        """How many calls may leave now; before anything is known of the limit, one at a time."""
        return self._bucket(method, endpoint, now).room(now.timestamp(), backfill=backfill)

    def take(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> bool:
        """True if one call may leave, which then is counted. A live call that may not goes before all backfills."""
        return self._bucket(method, endpoint, now).take(now.timestamp(), backfill=backfill)

    def ended(self, method: str, endpoint: str, now: datetime, *, was_sent: bool = True) -> None:
        """A call that was taken is over, with or without an answer. One that surely never left is given back."""
        self._bucket(method, endpoint, now).ended(was_sent=was_sent)

    def learn(
        self, method: str, endpoint: str, *, limit: int, remaining: int, resets_at: datetime, now: datetime
    ) -> None:
        """What the answer to a call told: the limit of its window, what is left of it and when the window ends by the
        other end's clock. Answers may come in any order.
        """
        bucket = self._bucket(method, endpoint, now)
        bucket.learn(limit, limit - remaining, _name(resets_at), now.timestamp())

    def exhausted(self, method: str, endpoint: str, now: datetime, resets_at: datetime | None) -> None:
        """The other end refused a call since its limit is used up: no room until the window ends, a minute at the
        most.
        """
        self._bucket(method, endpoint, now).exhausted(
            None if resets_at is None else resets_at.timestamp(), now.timestamp()
        )

    def wish(
        self, method: str, endpoint: str, now: datetime, count: int = 1, *, backfill: bool = False
    ) -> ShareRequest | None:
        """What to ask of the shared budget for so many calls, or for so many of backfills and one that is none; None
        while there is enough, nothing to be had, or nobody to share with.
        """
        bucket = self._bucket(method, endpoint, now)
        return bucket.wish(now.timestamp(), count, backfill=backfill) if self._is_shared else None

    def granted(self, method: str, endpoint: str, now: datetime, wish: ShareRequest, given: ShareGrant) -> None:
        """What became of a wish."""
        self._bucket(method, endpoint, now).granted(wish, given, now.timestamp())

    def opens_at(self, method: str, endpoint: str, now: datetime, *, backfill: bool = False) -> datetime:
        """When room is worth asking for again: now if there is some, else up to a minute later."""
        bucket, at = self._bucket(method, endpoint, now), now.timestamp()
        if bucket.has_room(at, backfill=backfill):
            return max(now, datetime.fromtimestamp(bucket.asks_at, UTC)) if bucket.asks_at > at else now
        wait = timedelta(seconds=bucket.opens_at(at, backfill=backfill) - at)
        return now + min(max(wait, SHORTEST_WAIT), LONGEST_WINDOW)

    def awaits_answer(self, method: str, endpoint: str, now: datetime) -> bool:
        """True if an answer that is under way decides how many more calls may leave."""
        return self._bucket(method, endpoint, now).awaits_answer(now.timestamp())

    def left(self, now: datetime) -> Iterator[tuple[str, str, int]]:
        """Method, endpoint and room of all that was ever called."""
        for method, endpoint in self._buckets:
            yield method, endpoint, self._bucket(method, endpoint, now).left(now.timestamp())

    def _bucket(self, method: str, endpoint: str, now: datetime) -> "_Bucket":
        bucket = self._buckets.get((method, endpoint))
        if bucket is None:
            bucket = self._buckets[method, endpoint] = _Bucket(
                self._share, _Window(started=now.timestamp()), is_shared=self._is_shared
            )
        bucket.move_to(now.timestamp())
        return bucket


def _name(resets_at: datetime) -> float:
    """The name of a window: its end to the nearest minute, so that an end told less exactly is no new window."""
    return round(resets_at.astimezone(UTC).timestamp() / _WINDOW) * _WINDOW
