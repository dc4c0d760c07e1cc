"""
Transactions that are left halfway, or look while others write.
"""

import asyncio

import pytest
from sqlalchemy import text

from app.store.engine import Database

ADD = text("insert into unexported values (:name, 'slug', 1, 0)")
COUNT = text("select count(*) from unexported")


async def test_what_a_failed_block_wrote_is_undone(database: Database) -> None:
    """
    And the next writer finds everything free.
    """

    async def fail() -> None:
        async with database.writing() as connection:
            await connection.execute(ADD, {"name": "a"})
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        await fail()
    async with database.writing() as connection:
        left = await connection.scalar(COUNT)

    assert left == 0


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_a_writer_that_is_cancelled_holds_up_nobody(database: Database, turns: int) -> None:
    """
    Whenever it happens: what it wrote is there as a whole or not at all, and others go on.
    """

    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(ADD, {"name": "a"})
            await connection.execute(ADD, {"name": "b"})

    writer = asyncio.create_task(write())
    for _ in range(turns):
        await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    async with database.writing() as connection:
        left = await connection.scalar(COUNT)
        await connection.execute(ADD, {"name": "c"})

    assert left in {0, 2}


async def test_a_reader_sees_one_state_throughout(database: Database) -> None:
    """
    What is committed meanwhile is seen by the next one.
    """
    async with database.reading() as reader:
        before = await reader.scalar(COUNT)
        async with database.writing() as writer:
            await writer.execute(ADD, {"name": "a"})
        meanwhile = await reader.scalar(COUNT)
    async with database.reading() as reader:
        after = await reader.scalar(COUNT)

    assert (before, meanwhile, after) == (0, 0, 1)


async def test_readers_go_on_while_somebody_writes(database: Database) -> None:
    """
    A long transaction holds up no page and no timeline.
    """
    async with database.writing() as writer:
        await writer.execute(ADD, {"name": "a"})
        async with database.reading() as reader:
            seen = await reader.scalar(COUNT)

    assert seen == 0
