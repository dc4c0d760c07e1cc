"""Conversion of membership rows to objects and back."""

from sqlalchemy import select

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.rows import MEMBERSHIP_COLUMNS, membership_of, rows_of, save_memberships
from app.store.schema import members, memberships
from tests.factories import ACCOUNT, ADA, ADA_ID, MINUTE, NOON, membership


async def test_each_column_is_read_and_written_in_its_position(database: Database, exports: Exports) -> None:
    """All columns have different values, so that swapped columns are detected."""
    for audience in ("A", "B"):
        export = await exports.start(audience, audience_slug="", account=ACCOUNT)
    written = membership(
        export_id=export.id,
        fields_at_ns=5,
        lytics_id=ADA_ID,
        vars={"city": "London"},
        revision=9,
        confirmed_revision=8,
        confirmed_vars="d" * 32,
        confirmed_at=NOON + MINUTE,
        dead_at=NOON + 2 * MINUTE,
        first_failed_at=NOON + 3 * MINUTE,
        accepted_at=NOON + 4 * MINUTE,
        erasure="e" * 64,
    )
    member = {"id": 3, "account": ACCOUNT, "address": ADA}
    await database.write(lambda connection: connection.execute(members.insert(), member))
    await database.write(lambda connection: save_memberships(connection, [(3, written)]))
    (row,) = await database.rows(select(memberships))

    assert membership_of(row, ADA) == written
    assert rows_of([(3, written)]) == [tuple(row)]
    assert len(row) == MEMBERSHIP_COLUMNS
