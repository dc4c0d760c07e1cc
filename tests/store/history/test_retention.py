"""Pruning: old history is deleted in small steps, and everything else stays."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, insert, select, text

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.history import retention as retention_module
from app.store.history.rejected import RejectedEvent, RejectedEvents
from app.store.history.retention import PRUNE_EVERY, Retention, prune
from app.store.members.members import Members
from app.store.replicas.chores import Chores
from app.store.schema import journal, memberships, minute_counts, minute_latencies, rejected_events
from tests.factories import HOUR, MINUTE, NOON, Clock, enter
from tests.store.conftest import Running
from tests.store.recording import recording

DAYS = 14


async def rows(database: Database) -> tuple[int, int, int]:
    tables = (journal, minute_counts, memberships)
    counts = [select(func.count()).select_from(table).scalar_subquery() for table in tables]
    (row,) = await database.rows(select(*counts))
    lines, minutes, held = row
    return lines, minutes, held


async def test_only_older_rows_are_deleted_in_small_steps(
    members: Members, running: Running, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recent lines and counts stay, and so do all memberships."""
    monkeypatch.setattr(retention_module, "ROWS_PER_STEP", 3)
    await running("A")
    for at in range(10):
        await members.apply([enter(at=at)])
        clock.advance(DAYS * 24 * HOUR / 5)
    steps: list[int] = []
    while steps[-1:] != [0]:
        steps.append(await prune(database, clock(), DAYS))
    again = await prune(database, clock(), DAYS)

    assert steps == [6, 4, 0]
    assert await rows(database) == (5, 5, 1)
    assert again == 0


async def test_rejected_events_are_deleted_after_thirty_days_in_small_steps(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This does not depend on the retention of timelines."""
    monkeypatch.setattr(retention_module, "ROWS_PER_STEP", 2)
    store = RejectedEvents(database)
    for day in range(5):
        await store.record([RejectedEvent(NOON + day * 24 * HOUR, "not_json", f"Day {day}.", 1, "{")])
    now = NOON + 32 * 24 * HOUR + MINUTE
    steps = [await prune(database, now, journal_days=1000) for _ in range(3)]

    assert steps == [2, 1, 0]
    assert [event.happened for _, event in await store.page()] == ["Day 4.", "Day 3."]


async def test_with_nothing_to_prune_each_table_is_read_once(
    members: Members, exports: Exports, running: Running, database: Database
) -> None:
    """This takes four reads of one step by index, and no write, for a history of any length."""
    await running("A")
    await members.apply([enter()])
    line = {"at": NOON, "member_id": 1, "what": "called", "detail": {}}
    event = {"at": NOON, "reason": "not_json", "happened": "", "body_bytes": 1, "body": "{"}
    counted = [{"export_id": 1, "minute": NOON + n * MINUTE} for n in range(1, 5000)]

    def fill(connection: Connection) -> None:
        connection.execute(insert(journal), [line] * 5000)
        connection.execute(insert(rejected_events), [event] * 5000)
        connection.execute(insert(minute_counts), counted)
        connection.execute(insert(minute_latencies), [{**row, "bucket": 1, "confirmed": 1} for row in counted])
        connection.execute(text("analyze"))

    await database.write(fill)
    with recording(database) as recorded:
        gone = await prune(database, NOON + MINUTE, DAYS)

    assert gone == 0
    assert len(recorded.statements) == 4
    assert all(statement.startswith("SELECT") and "LIMIT" in statement for statement in recorded.statements)
    assert not recorded.is_any_sorted


@pytest.fixture
async def old(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store three old events. Two of them are deleted in one step."""
    monkeypatch.setattr(retention_module, "ROWS_PER_STEP", 2)
    await RejectedEvents(database).record([RejectedEvent(NOON, "not_json", "Old.", 1, "{") for _ in range(3)])
    clock.advance(40 * 24 * HOUR)


@pytest.mark.usefixtures("old")
async def test_next_turn_is_at_once_while_there_is_more(database: Database, clock: Clock) -> None:
    """Without more to delete, the next turn is in an hour."""
    house = Retention(database, clock, DAYS, None)
    turns = [await house.prune() for _ in range(3)]

    assert turns == [timedelta(0), timedelta(0), PRUNE_EVERY]


@pytest.mark.usefixtures("old")
async def test_one_of_several_replicas_prunes_until_nothing_is_left(database: Database, clock: Clock) -> None:
    """The other replicas do nothing. In the next hour another replica may have the turn."""
    first, second = (Retention(database, clock, DAYS, Chores(database, clock)) for _ in range(2))
    turns = [await house.prune() for house in (first, second, first, second, first)]
    left = await RejectedEvents(database).page()
    await RejectedEvents(database).record([RejectedEvent(NOON, "not_json", "Old.", 1, "{")])
    same_hour = [await house.prune() for house in (first, second)]
    clock.advance(PRUNE_EVERY)
    next_hour = [await house.prune() for house in (second, first)]

    assert turns == [timedelta(0), PRUNE_EVERY, timedelta(0), PRUNE_EVERY, PRUNE_EVERY]
    assert list(left) == []
    assert same_hour == [PRUNE_EVERY, PRUNE_EVERY]
    assert next_hour == [timedelta(0), PRUNE_EVERY]
