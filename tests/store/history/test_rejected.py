"""Rejected events: the newest 10,000 are stored in groups and read page by page."""

import asyncio

import pytest
from sqlalchemy import func, select, text

from app.store.database.engine import Database
from app.store.history import rejected
from app.store.history.rejected import RejectedEvent, RejectedEvents
from app.store.schema import rejected_events
from tests.factories import NOON, SECOND
from tests.store.recording import recording


def rejection(number: int = 0) -> RejectedEvent:
    return RejectedEvent(NOON + number * SECOND, "not_json", f"Number {number}.", 7, "{")


@pytest.fixture
def store(database: Database) -> RejectedEvents:
    return RejectedEvents(database)


async def happened(store: RejectedEvents, **page: int) -> list[str]:
    return [event.happened for _, event in await store.page(**page)]


async def test_events_are_returned_newest_first(store: RejectedEvents) -> None:
    await store.record([rejection(1), rejection(2)])
    await store.record([rejection(3)])
    found = await store.page()

    assert [event for _, event in found] == [rejection(3), rejection(2), rejection(1)]
    assert [number for number, _ in found] == sorted((number for number, _ in found), reverse=True)


async def test_pages_have_no_gap_or_repetition_while_events_arrive(store: RejectedEvents) -> None:
    await store.record([rejection(n) for n in range(5)])
    first = await store.page(size=2)
    await store.record([rejection(5)])

    assert [event.happened for _, event in first] == ["Number 4.", "Number 3."]
    assert await happened(store, before=first[-1][0], size=9) == ["Number 2.", "Number 1.", "Number 0."]


async def test_oldest_events_are_deleted_even_if_one_transaction_exceeds_the_limit(
    store: RejectedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "MOST_ROWS", 3)
    await store.record([rejection(n) for n in range(2)])
    two = await happened(store)
    await store.record([rejection(2), rejection(3)])
    three = await happened(store)
    await store.record([rejection(n) for n in range(4, 9)])

    assert two == ["Number 1.", "Number 0."]
    assert three == ["Number 3.", "Number 2.", "Number 1."]
    assert await happened(store) == ["Number 8.", "Number 7.", "Number 6."]


async def test_at_most_ten_thousand_events_are_stored(store: RejectedEvents, database: Database) -> None:
    await store.record([rejection(n) for n in range(9_999)])
    await store.record([rejection(n) for n in range(9_999, 10_050)])
    ((count,),) = await database.rows(select(func.count()).select_from(rejected_events))

    assert count == 10_000
    assert await happened(store, size=1) == ["Number 10049."]


async def test_deletion_reads_only_the_rows_that_it_deletes(store: RejectedEvents, database: Database) -> None:
    await store.record([rejection(n) for n in range(5000)])
    await database.write(lambda connection: connection.execute(text("analyze")))
    with recording(database) as recorded:
        await store.record([rejection()])
    making_room = recorded.all[-1]

    assert making_room.statement.startswith("DELETE")
    assert "rejected_events" in str(making_room.plan)
    assert recorded.scanned("rejected_events") == set()


async def test_many_requests_share_short_transactions(database: Database) -> None:
    sizes: list[tuple[str, int]] = []
    store = RejectedEvents(database, on_commit=lambda what, size: sizes.append((what, size)))
    await asyncio.gather(*(store.record([rejection(n)]) for n in range(350)))

    assert {what for what, _ in sizes} == {"reject"}
    assert [size for _, size in sizes] == [100, 100, 100, 50]
    assert len(await store.page(size=1000)) == 350


async def test_no_events_cause_no_transaction(database: Database) -> None:
    sizes: list[int] = []
    store = RejectedEvents(database, on_commit=lambda _, size: sizes.append(size))
    await store.record([])

    assert sizes == []
    assert await store.page() == []
