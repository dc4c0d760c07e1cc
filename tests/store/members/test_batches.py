"""Orders that concern every member of an export, in batches."""

import pytest
from sqlalchemy import text

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members import rows
from app.store.members.batches import make_pending_due
from app.store.members.members import Members
from app.store.schema import members as members_table
from tests.factories import ACCOUNT, MINUTE, NOON, enter


async def make_due(database: Database, export_id: int, *, size: int = 100) -> bool:
    now = NOON + MINUTE
    return await database.write(lambda connection: make_pending_due(connection, export_id, size=size, now=now))


async def test_batch_may_take_several_statements(
    members: Members, exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases limit the number of keys in a statement. No member is left out, and all are due now."""
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.apply([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(8)])
    await exports.name(export.id, "A", "Lytics A")
    is_more = await make_due(database, export.id)
    found = await database.rows(members_table.select().order_by(members_table.c.id))

    assert not is_more
    assert [row.due_at for row in found] == [NOON + MINUTE] * 8


async def test_paused_export_makes_no_more_members_due(members: Members, exports: Exports, database: Database) -> None:
    """The export is paused halfway. Due members stay due, and the others become due when the export runs again."""
    export = await exports.start("A", audience_slug="a", account=ACCOUNT)
    await members.apply([enter(f"p{n}@example.com", lytics_id=str(n), export_id=export.id) for n in range(3)])
    await exports.name(export.id, "A", "Lytics A")
    is_more = [await make_due(database, export.id, size=2)]
    await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
    is_more.append(await make_due(database, export.id, size=2))
    paused = [row.due_at for row in await database.rows(members_table.select().order_by(members_table.c.id))]
    unfinished = await exports.unfinished()
    run = text("update exports set state = 'running', waking_from = 0")
    await database.write(lambda connection: connection.execute(run))
    is_more.append(await make_due(database, export.id))
    again = [row.due_at for row in await database.rows(members_table.select().order_by(members_table.c.id))]

    assert is_more == [True, False, False]
    assert paused == [NOON + MINUTE, NOON + MINUTE, None]
    assert unfinished == []
    assert again == [NOON + MINUTE] * 3
