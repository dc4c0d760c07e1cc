"""
The bench measures what it says: real webhooks, all of them answered, and medians of rounds.
"""

import json
import tempfile
from itertools import islice
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select

from app.lytics.webhook import read
from app.store.engine import Database
from app.store.schema import totals
from tests import postgresql
from tests.bench import databases, doors
from tests.bench.bodies import address, requests
from tests.bench.report import numbered, ratio_of_rounds, spread
from tests.bench.store import stores


@pytest.mark.parametrize("events", [1, 3])
def test_each_event_of_the_load_is_one_of_somebody_new(events: int) -> None:
    """
    Whole requests in Lytics' own format, whose length is told right.
    """
    people: list[tuple[object, object]] = []
    for person, request in islice(requests(70_000_000, events), 4):
        head, _, body = request.partition(b"\r\n\r\n")
        reading = read(body, arrived_at_ns=1_900_000_000_000_000_000)
        people += [(event.profile["email"], event.lytics_id) for event in reading.events]

        assert head.endswith(f"Content-Length: {len(body)}".encode())
        assert reading.rejected == []
        assert isinstance(json.loads(body), dict if events == 1 else list)
        assert people[-events][0] == address(person)

    assert len(set(people)) == 4 * events


def test_the_load_is_answered_to_the_last_request(tmp_path: Path) -> None:
    """
    As fast as answers come, or at a rate; what is counted is what the server answered.
    """
    with doors.baseline(tmp_path) as port:
        peak = doors.put(port, 0.5, connections=4)
        steady = doors.put(port, 1, rate=100)

    assert list(peak.answers) == list(steady.answers) == ['200 {"accepted":1}']
    assert len(peak.requests) == peak.answers['200 {"accepted":1}'] > 0
    assert 0 < len(steady.requests) < 200
    assert all(request.took > 0 for request in [*peak.requests, *steady.requests])


def test_a_server_that_keeps_less_than_it_was_sent_is_not_measured(tmp_path: Path) -> None:
    """
    The baseline knows no arrays.
    """
    with doors.baseline(tmp_path) as port, pytest.raises(AssertionError, match="422"):
        doors.put(port, 0.2, events=2, connections=1)


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """
    Of each round's own ratio, so that a round on a busy machine counts as one.
    """
    said: list[str] = []
    row = ratio_of_rounds(
        "speed",
        "≥ 2",
        [6.0, 1.0, 9.0].__getitem__,
        [2.0, 1.0, 3.0].__getitem__,
        say=said.append,
        rounds=3,
        unit="/s",
        holds=lambda ratio: ratio >= 2,
    )

    assert (row.value, row.is_met) == ("3.00 (1.00-3.00)", True)
    assert row.details == "6.0 /s (1.0-9.0) ÷ 2.0 /s (1.0-3.0)"
    assert said[:2] == ["  round 1 of 3 …", "  6.0 ÷ 2.0 /s = 3.00"]


def test_rounds_are_told_as_they_begin() -> None:
    said: list[str] = []

    assert list(numbered(2, said.append)) == [0, 1]
    assert said == ["  round 1 of 2 …", "  round 2 of 2 …"]
    assert spread([1.0, 2000.0, 3.0], "ms") == "3.0 ms (1.0-2,000.0)"


def test_a_server_of_the_bench_syncs_to_disk_and_is_gone_afterwards() -> None:
    """
    What is compared with SQLite's files is as durable.
    """
    with databases.on_disk() as url:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert postgresql.apart(value_of(url, f"SHOW {name}")) == "on"
        folder = Path(postgresql.apart(value_of(url, "SHOW data_directory")))
        assert Path(tempfile.gettempdir()) in folder.parents

    assert not folder.exists()


async def value_of(url: str, statement: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


def test_the_store_is_measured_by_members_that_are_kept_and_told(empty_url: str) -> None:
    """
    Each person is kept, called for and settled once, on both databases.
    """
    with stores([empty_url]) as (store,):
        assert store.keep(70) > 0
        assert totals_of(empty_url) == (70, 0, 70)

        assert store.call(50) > 0
        assert store.call(20) > 0
        assert totals_of(empty_url) == (70, 70, 0)

        with pytest.raises(AssertionError, match="Only 0 members of 1 were due"):
            store.call(1)


def totals_of(url: str) -> tuple[int, int, int]:
    """
    Accepted, delivered and pending.
    """

    async def read() -> tuple[int, int, int]:
        database = Database.open(url, is_exclusive=False)
        try:
            (row,) = await database.rows(select(totals.c.accepted, totals.c.delivered, totals.c.pending))
            return row.accepted, row.delivered, row.pending
        finally:
            await database.close()

    return postgresql.apart(read())
