"""
What the replicas have taken of a limit: read, decided and written in one piece.
"""

import asyncio

from app.domain.budget import Grant, Wish
from app.store.budgets import Budgets
from app.store.engine import Database
from tests.factories import ACCOUNT, NOON

ENDS = int(NOON.timestamp()) + 60
USER = "POST user"


def wish(
    block: int = 10, *, most: int | None = 100, ends: int | None = ENDS, returned: int = 0, backfills: int = 0
) -> Wish:
    return Wish(ends, most, block, returned, backfills)


async def test_what_is_taken_is_remembered(database: Database) -> None:
    """
    Over restarts, by account and endpoint.
    """
    await Budgets(database).take(ACCOUNT, USER, wish(backfills=3))
    budgets = Budgets(database)

    assert await budgets.take(ACCOUNT, USER, wish(returned=4, backfills=2)) == Grant(10, 16, 5, ENDS)
    assert await budgets.take(ACCOUNT, "GET user", wish()) == Grant(10, 10, 0, ENDS)
    assert await budgets.take("other", USER, wish()) == Grant(10, 10, 0, ENDS)


async def test_the_window_before_is_remembered_too(database: Database) -> None:
    """
    Whoever is still in it counts there.
    """
    budgets = Budgets(database)
    await budgets.take(ACCOUNT, USER, wish(90, backfills=7))
    in_new = await budgets.take(ACCOUNT, USER, wish(ends=ENDS + 60))
    in_old = await budgets.take(ACCOUNT, USER, wish(20, backfills=1))
    in_new_again = await budgets.take(ACCOUNT, USER, wish(ends=ENDS + 60))

    assert [in_new, in_old, in_new_again] == [
        Grant(10, 10, 0, ENDS + 60),
        Grant(10, 100, 8, ENDS + 60),
        Grant(10, 20, 0, ENDS + 60),
    ]


async def test_many_at_once_get_no_more_than_there_is(database: Database) -> None:
    """
    The first ones too, who all find that nothing was taken yet.
    """
    budgets = Budgets(database)
    given = await asyncio.gather(*(budgets.take(ACCOUNT, USER, wish(7)) for _ in range(20)))

    assert sum(one.tokens for one in given) == 100
    assert max(one.taken for one in given) == 100
