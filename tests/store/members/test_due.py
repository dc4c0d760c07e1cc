"""Who is due, and when: by account and priority."""

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


async def test_each_priority_has_a_first_of_its_own(
    members: Members, exports: Exports, running: Running, database: Database, clock: Clock
) -> None:
    """Of one account; a priority for which nobody waits is left out."""
    await running("A")
    other = await exports.start("A", audience_slug="a", account="other")
    await exports.name(other.id, "A", "Lytics A")
    before = await first_due(database)
    await members.keep([enter(ADA)])
    await database.write(lambda connection: connection.execute(update(members_table).values(priority=BACKFILL)))
    backfill = await first_due(database)
    clock.advance(SECOND)
    await members.keep([enter(GRACE, lytics_id=GRACE_ID), enter(export_id=other.id)])
    clock.advance(SECOND)
    await members.keep([enter("late@example.com", lytics_id="3")])

    assert before == {}
    assert backfill == {BACKFILL: NOON}
    assert await first_due(database) == {LIVE: NOON + SECOND, BACKFILL: NOON}
    assert await first_due(database, "other") == {LIVE: NOON + SECOND}
    assert await first_due(database, "nobody") == {}


async def test_whoever_is_called_is_due_when_the_lease_ends(
    members: Members, running: Running, database: Database
) -> None:
    """And once told not any more."""
    await running("A")
    await members.keep([enter()])
    (claim,) = await members.claim(ACCOUNT, room=room(1), lease_for=MINUTE)
    leased = await first_due(database)
    await members.settle(settlement(claim))

    assert leased == {LIVE: NOON + MINUTE}
    assert await first_due(database) == {}


async def test_who_is_due_too_far_ahead_is_brought_back(
    members: Members, running: Running, database: Database, clock: Clock
) -> None:
    """Of these accounts and of both priorities; who waits no longer than anybody may, or not at all, stays as it is."""
    await running("A")
    people = ["late@example.com", "backfill@example.com", "retry@example.com", "settled@example.com"]
    due_at = [NOON + 30 * DAY, NOON + 30 * DAY, NOON + HOUR, None]
    await members.keep([enter(address, lytics_id=address) for address in people])
    for address, at in zip(people, due_at, strict=True):
        priority = BACKFILL if address.startswith("backfill") else LIVE
        change = update(members_table).where(members_table.c.address == address).values(due_at=at, priority=priority)
        await database.write(partial(_execute, statement=change))
    others = await members.bring_back(["other"], longest_wait=HOUR, lease_for=MINUTE)
    brought = await members.bring_back([ACCOUNT], longest_wait=HOUR, lease_for=MINUTE)
    rows = await database.rows(select(members_table.c.address, members_table.c.due_at))

    assert (others, brought) == (0, 2)
    assert dict(rows) == dict(zip(people, [NOON + MINUTE, NOON + MINUTE, NOON + HOUR, None], strict=True))


def _execute(connection: Connection, statement: Update) -> None:
    connection.execute(statement)
