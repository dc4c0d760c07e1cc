"""
The bench measures what it says: real webhooks, all of them answered, and medians of rounds.
"""

import json
from itertools import islice
from pathlib import Path

import pytest

from app.lytics.webhook import read
from tests.bench import doors
from tests.bench.bodies import address, requests
from tests.bench.report import numbered, ratio_of_rounds, spread


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
