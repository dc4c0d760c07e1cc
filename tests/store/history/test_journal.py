"""The timeline of an address: complete, ordered, and without field values."""

from pathlib import Path

from sqlalchemy import Connection, inspect

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.members import Members
from tests.factories import (
    ACCOUNT,
    ADA,
    GRACE,
    GRACE_ID,
    MINUTE,
    NOON,
    SECOND,
    Clock,
    Effect,
    enter,
    exit_,
    ns,
    room,
    settlement,
)
from tests.store.conftest import Running


async def test_timeline_has_received_called_and_answered_lines_with_names_only(
    members: Members, journal: Journal, running: Running, clock: Clock
) -> None:
    await running("A")
    await members.apply([enter(at=1, vars={"first_name": "Ada"}, clock_corrected=True)])
    clock.advance(SECOND)
    (claim,) = await members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    clock.advance(SECOND)
    await members.settle(settlement(claim, Effect.NONE, retry_at=NOON + MINUTE, is_spent=True, dead={1: "11"}))
    await members.apply([exit_(at=0)])
    lines = [line for _, line in await journal.timeline(ADA)]

    assert [(line.what, line.at, line.export_id) for line in lines] == [
        ("received", NOON, 1),
        ("called", NOON + SECOND, None),
        ("answered", NOON + 2 * SECOND, None),
        ("received", NOON + 2 * SECOND, 1),
    ]
    assert [line.detail for line in lines] == [
        {"kind": "enter", "verdict": "accepted", "moved_at_ns": ns(1), "clock_corrected": True},
        {"attempt": 1, "read": False, "join": ["Lytics A"], "leave": [], "vars": ["first_name"]},
        {"outcome": "503", "retry_at": (NOON + MINUTE).isoformat(), "dead_exports": [1]},
        {"kind": "exit", "verdict": "stale", "moved_at_ns": ns(0)},
    ]


async def test_newest_lines_are_returned_oldest_first(members: Members, journal: Journal, running: Running) -> None:
    await running("A")
    for at in range(5):
        await members.apply([enter(at=at)])
    lines = [line.detail["moved_at_ns"] for _, line in await journal.timeline(ADA, limit=2)]

    assert lines == [ns(3), ns(4)]


async def test_timeline_covers_all_accounts_of_the_address_and_no_other_address(
    members: Members, exports: Exports, journal: Journal, running: Running
) -> None:
    await running("A")
    other = await exports.start("A", audience_slug="a", account="other")
    await members.apply([enter(), enter(GRACE, lytics_id=GRACE_ID), enter(export_id=other.id)])

    assert [(account, line.export_id) for account, line in await journal.timeline(ADA)] == [
        (ACCOUNT, 1),
        ("other", other.id),
    ]


async def test_unknown_address_has_an_empty_timeline(journal: Journal) -> None:
    assert await journal.timeline(ADA) == []


async def test_field_values_are_stored_with_the_membership_only_and_deleted_by_an_exit(
    members: Members, journal: Journal, running: Running, database: Database, tmp_path: Path
) -> None:
    await running("A")
    await members.apply([enter(at=1, vars={"first_name": "Wert-im-Feld"})])
    (claim,) = await members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    await members.settle(settlement(claim))
    holding = await database.read(lambda connection: tables_with(connection, "Wert-im-Feld"))
    await members.apply([exit_(at=2)])

    assert holding == {"memberships"}
    assert await database.read(lambda connection: tables_with(connection, "Wert-im-Feld")) == set()


def tables_with(connection: Connection, value: str) -> set[str]:
    """Return the tables that contain a text in any column."""
    found: set[str] = set()
    for table in inspect(connection).get_table_names():
        rows = connection.exec_driver_sql(f'select * from "{table}"')
        if any(value in str(cell) for row in rows for cell in row):
            found.add(table)
    return found
