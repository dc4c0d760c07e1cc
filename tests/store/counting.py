"""Compares the counts of the store with its rows."""

from sqlalchemy import case, func, select

from app.domain.export import ExportState
from app.domain.membership import Membership
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import exports as exports_table
from app.store.schema import members, memberships


async def counts(exports: Exports, export_id: int = 1) -> dict[str, int]:
    """Return the counts of an export that are not zero."""
    (report,) = await exports.reports(export_id)
    return {name: count for name, count in report.counts.items() if count}


async def held(store: Members, address: str, export_id: int = 1) -> Membership:
    """Return one membership."""
    return next(report.membership for report in await store.find_by_address(address) if report.export_id == export_id)


async def assert_all_adds_up(database: Database, exports: Exports, *, has_erasures: bool = False) -> None:
    """Assert that totals equal the sums of rows, and that pending members of running exports are due.

    Args:
        has_erasures: True if rows were erased. They are not counted, so `accepted` can't be compared.
    """
    rows = select(
        memberships.c.export_id,
        func.sum(memberships.c.revision).label("accepted"),
        func.sum(memberships.c.revision - memberships.c.confirmed_revision).label("pending"),
        func.sum(case((memberships.c.dead_code.is_not(None), 1), else_=0)).label("dead"),
        func.sum(case((memberships.c.desired, 1), else_=0)).label("members"),
    )
    counted = rows.where(memberships.c.erasure.is_(None)).group_by(memberships.c.export_id)
    late = (
        select(memberships.c.member_id)
        .join(members, members.c.id == memberships.c.member_id)
        .join(exports_table, exports_table.c.id == memberships.c.export_id)
        .where(
            memberships.c.revision > memberships.c.confirmed_revision,
            members.c.due_at.is_(None),
            exports_table.c.state == ExportState.RUNNING,
        )
    )
    found, not_due = await database.read(
        lambda connection: (
            {row.export_id: row for row in connection.execute(counted)},
            list(connection.scalars(late)),
        )
    )
    for report in await exports.reports():
        row, said = found.get(report.export.id), report.counts
        ends = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")

        assert said["accepted"] == sum(said[name] for name in ends)
        for name in ("pending", "dead", "members") if has_erasures else ("accepted", "pending", "dead", "members"):
            assert said[name] == (0 if row is None else getattr(row, name))
    assert not_due == []
