"""Orders that concern every member of an export, in slices: called for, cancelled, doubted."""

import pytest
from sqlalchemy import text

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members import rows
from app.store.members.batches import wake
from app.store.members.members import Members
from app.store.schema import members as members_table
from tests.factories import ACCOUNT, MINUTE, NOON, enter


async def woken(database: Database, export_id: int, *, size: int = 100) -> bool:
    return await database.write(lambda connection: wake(connection, export_id, size=size, now=NOON + MINUTE))


async def test_a_slice_may_take_several_statements(
    members: Members, exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases limit how many keys a statement names; nobody is left out, and all are due from now."""
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.keep([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(8)])
    await exports.name(export.id, "A", "Lytics A")
    is_more = await woken(database, export.id)
    found = await database.rows(members_table.select().order_by(members_table.c.id))

    assert not is_more
    assert [row.due_at for row in found] == [NOON + MINUTE] * 8


async def test_an_export_that_stops_running_wakes_nobody_more(
    members: Members, exports: Exports, database: Database
) -> None:
    """Halfway: whoever is due stays so, the rest waits until it runs again and is woken then."""
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.keep([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(3)])
    await exports.name(export.id, "A", "Lytics A")
    is_more = [await woken(database, export.id, size=2)]
    await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
    is_more.append(await woken(database, export.id, size=2))
    paused = [row.due_at for row in await database.rows(members_table.select().order_by(members_table.c.id))]
    waking = await exports.unfinished()
    run = text("update exports set state = 'running', waking_from = 0")
    await database.write(lambda connection: connection.execute(run))
    is_more.append(await woken(database, export.id))
    again = [row.due_at for row in await database.rows(members_table.select().order_by(members_table.c.id))]

    assert is_more == [True, False, False]
    assert paused == [NOON + MINUTE, NOON + MINUTE, None]
    assert waking == []
    assert again == [NOON + MINUTE] * 3
