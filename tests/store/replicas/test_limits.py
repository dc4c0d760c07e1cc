"""Shared rate limits: requests are read, decided and stored atomically."""

import asyncio

from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.store.database.engine import Database
from app.store.replicas.limits import SharedLimits
from tests.factories import ACCOUNT, NOON

ENDS = int(NOON.timestamp()) + 60
USER = "POST user"


def request(
    calls: int = 10, *, allowed: int | None = 100, ends: int | None = ENDS, returned: int = 0, backfills: int = 0
) -> ShareRequest:
    return ShareRequest(ends, allowed, calls, returned, backfills)


async def test_taken_calls_are_stored(database: Database) -> None:
    """They are stored over restarts, by account and endpoint."""
    await SharedLimits(database).take(ACCOUNT, USER, request(backfills=3))
    limits = SharedLimits(database)

    assert await limits.take(ACCOUNT, USER, request(returned=4, backfills=2)) == ShareGrant(10, 16, 5, ENDS)
    assert await limits.take(ACCOUNT, "GET user", request()) == ShareGrant(10, 10, 0, ENDS)
    assert await limits.take("other", USER, request()) == ShareGrant(10, 10, 0, ENDS)


async def test_calls_of_the_previous_window_are_stored_too(database: Database) -> None:
    """A request for the previous window counts there."""
    limits = SharedLimits(database)
    await limits.take(ACCOUNT, USER, request(90, backfills=7))
    in_new = await limits.take(ACCOUNT, USER, request(ends=ENDS + 60))
    in_old = await limits.take(ACCOUNT, USER, request(20, backfills=1))
    in_new_again = await limits.take(ACCOUNT, USER, request(ends=ENDS + 60))

    assert [in_new, in_old, in_new_again] == [
        ShareGrant(10, 10, 0, ENDS + 60),
        ShareGrant(10, 100, 8, ENDS + 60),
        ShareGrant(10, 20, 0, ENDS + 60),
    ]


async def test_simultaneous_requests_get_no_more_than_the_limit(database: Database) -> None:
    """This includes the first requests, which all find that nothing was taken yet."""
    limits = SharedLimits(database)
    grants = await asyncio.gather(*(limits.take(ACCOUNT, USER, request(7)) for _ in range(20)))

    assert sum(grant.calls for grant in grants) == 100
    assert max(grant.taken for grant in grants) == 100
