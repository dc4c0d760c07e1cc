"""What the replicas have taken of a limit: read, decided and written in one piece."""

import asyncio

from app.domain.rate_limit.share import ShareGrant, ShareRequest
from app.store.database.engine import Database
from app.store.replicas.limits import SharedLimits
from tests.factories import ACCOUNT, NOON

ENDS = int(NOON.timestamp()) + 60
USER = "POST user"


def request(
    block: int = 10, *, most: int | None = 100, ends: int | None = ENDS, returned: int = 0, backfills: int = 0
) -> ShareRequest:
    return ShareRequest(ends, most, block, returned, backfills)


async def test_what_is_taken_is_remembered(database: Database) -> None:
    """Over restarts, by account and endpoint."""
    await SharedLimits(database).take(ACCOUNT, USER, request(backfills=3))
    budgets = SharedLimits(database)

    assert await budgets.take(ACCOUNT, USER, request(returned=4, backfills=2)) == ShareGrant(10, 16, 5, ENDS)
    assert await budgets.take(ACCOUNT, "GET user", request()) == ShareGrant(10, 10, 0, ENDS)
    assert await budgets.take("other", USER, request()) == ShareGrant(10, 10, 0, ENDS)


async def test_the_window_before_is_remembered_too(database: Database) -> None:
    """Whoever is still in it counts there."""
    budgets = SharedLimits(database)
    await budgets.take(ACCOUNT, USER, request(90, backfills=7))
    in_new = await budgets.take(ACCOUNT, USER, request(ends=ENDS + 60))
    in_old = await budgets.take(ACCOUNT, USER, request(20, backfills=1))
    in_new_again = await budgets.take(ACCOUNT, USER, request(ends=ENDS + 60))

    assert [in_new, in_old, in_new_again] == [
        ShareGrant(10, 10, 0, ENDS + 60),
        ShareGrant(10, 100, 8, ENDS + 60),
        ShareGrant(10, 20, 0, ENDS + 60),
    ]


async def test_many_at_once_get_no_more_than_there_is(database: Database) -> None:
    """The first ones too, who all find that nothing was taken yet."""
    budgets = SharedLimits(database)
    given = await asyncio.gather(*(budgets.take(ACCOUNT, USER, request(7)) for _ in range(20)))

    assert sum(one.calls for one in given) == 100
    assert max(one.taken for one in given) == 100
