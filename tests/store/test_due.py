"""
Who is due, and when: by account and priority, and in slices once an export begins to run.
"""

from datetime import datetime

import pytest
from sqlalchemy import text, update

from app.store import rows
from app.store.due import next_due_at, wake
from app.store.engine import Database
from app.store.exports import Exports
from app.store.members import Members
from app.store.schema import BACKFILL, LIVE
from app.store.schema import members as members_table
from tests.factories import ACCOUNT, ADA, GRACE, GRACE_ID, MINUTE, NOON, SECOND, Clock, enter, room, settlement
from tests.store.conftest import Running


async def first_due(database: Database, account: str = ACCOUNT) -> dict[int, datetime]:
    return await database.read(lambda connection: next_due_at(connection, account))


async def woken(database: Database, export_id: int, *, size: int = 100) -> bool:
    return await database.write(lambda connection: wake(connection, export_id, size=size, now=NOON + MINUTE))


async def test_each_priority_has_a_first_of_its_own(
    members: Members, exports: Exports, running: Running, database: Database, clock: Clock
) -> None:
    """
    Of one account; a priority for which nobody waits is left out.
    """
    await running("A")
    other = await exports.start("A", audience_slug="a", account="other")
    await exports.name(other.id, "A")
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
    """
    And once told not any more.
    """
    await running("A")
    await members.keep([enter()])
    (claim,) = await members.claim(ACCOUNT, room=room(1), lease_for=MINUTE)
    leased = await first_due(database)
    await members.settle(settlement(claim))

    assert leased == {LIVE: NOON + MINUTE}
    assert await first_due(database) == {}


async def test_a_slice_may_take_several_statements(
    members: Members, exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Databases limit how many keys a statement names; nobody is left out, and all are due from now.
    """
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.keep([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(8)])
    await exports.name(export.id, "A")
    is_more = await woken(database, export.id)
    found = await database.rows(members_table.select())

    assert not is_more
    assert [row.due_at for row in found] == [NOON + MINUTE] * 8


async def test_an_export_that_stops_running_wakes_nobody_more(
    members: Members, exports: Exports, database: Database
) -> None:
    """
    Halfway: whoever is due stays so, the rest waits until it runs again and is woken then.
    """
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.keep([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(3)])
    await exports.name(export.id, "A")
    is_more = [await woken(database, export.id, size=2)]
    await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
    is_more.append(await woken(database, export.id, size=2))
    paused = [row.due_at for row in await database.rows(members_table.select())]
    waking = await exports.waking()
    run = text("update exports set state = 'running', waking_from = 0")
    await database.write(lambda connection: connection.execute(run))
    is_more.append(await woken(database, export.id))
    again = [row.due_at for row in await database.rows(members_table.select())]

    assert is_more == [True, False, False]
    assert paused == [NOON + MINUTE, NOON + MINUTE, None]
    assert waking == []
    assert again == [NOON + MINUTE] * 3
