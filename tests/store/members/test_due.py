"""Due times by account and priority, and their correction."""

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, Update, select, update

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.due import next_due_at
from app.store.members.members import Members
from app.store.schema import BACKFILL, LIVE
from app.store.schema import members as members_table
from tests.factories import ACCOUNT, ADA, GRACE, GRACE_ID, HOUR, MINUTE, NOON, SECOND, Clock, enter, room, settlement
from tests.store.conftest import Running

DAY = timedelta(days=1)


async def first_due(database: Database, account: str = ACCOUNT) -> dict[int, datetime]:
    return await database.read(lambda connection: next_due_at(connection, account))


async def test_each_priority_has_its_own_first_due_time(
    members: Members, exports: Exports, running: Running, database: Database, clock: Clock
) -> None:
    """A priority without due members has no key."""
    await running("A")
    other = await exports.start("A", audience_slug="a", account="other")
    await exports.name(other.id, "A", "Lytics A")
    before = await first_due(database)
    await members.apply([enter(ADA)])
    await database.write(lambda connection: connection.execute(update(members_table).values(priority=BACKFILL)))
    backfill = await first_due(database)
    clock.advance(SECOND)
    await members.apply([enter(GRACE, lytics_id=GRACE_ID), enter(export_id=other.id)])
    clock.advance(SECOND)
    await members.apply([enter("late@example.com", lytics_id="3")])

    assert before == {}
    assert backfill == {BACKFILL: NOON}
    assert await first_due(database) == {LIVE: NOON + SECOND, BACKFILL: NOON}
    assert await first_due(database, "other") == {LIVE: NOON + SECOND}
    assert await first_due(database, "unknown") == {}


async def test_claimed_member_is_due_when_the_lease_ends(
    members: Members, running: Running, database: Database
) -> None:
    """A settled member is no longer due."""
    await running("A")
    await members.apply([enter()])
    (claim,) = await members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    leased = await first_due(database)
    await members.settle(settlement(claim))

    assert leased == {LIVE: NOON + MINUTE}
    assert await first_due(database) == {}


async def test_impossibly_late_due_times_are_corrected(
    members: Members, running: Running, database: Database, clock: Clock
) -> None:
    """This covers both priorities of the given accounts. Possible due times and null stay unchanged."""
    await running("A")
    addresses = ["late@example.com", "backfill@example.com", "retry@example.com", "settled@example.com"]
    due_at = [NOON + 30 * DAY, NOON + 30 * DAY, NOON + HOUR, None]
    await members.apply([enter(address, lytics_id=address) for address in addresses])
    for address, at in zip(addresses, due_at, strict=True):
        priority = BACKFILL if address.startswith("backfill") else LIVE
        change = update(members_table).where(members_table.c.address == address).values(due_at=at, priority=priority)
        await database.write(partial(_execute, statement=change))
    others = await members.correct_due_times(["other"], longest_wait=HOUR, lease_for=MINUTE)
    corrected = await members.correct_due_times([ACCOUNT], longest_wait=HOUR, lease_for=MINUTE)
    rows = await database.rows(select(members_table.c.address, members_table.c.due_at))

    assert (others, corrected) == (0, 2)
    assert dict(rows) == dict(zip(addresses, [NOON + MINUTE, NOON + MINUTE, NOON + HOUR, None], strict=True))


def _execute(connection: Connection, statement: Update) -> None:
    connection.execute(statement)
