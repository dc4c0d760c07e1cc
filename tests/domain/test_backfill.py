"""Progress of a backfill: counts, rate, loops, start and end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.backfill import (
    Backfill,
    BackfillState,
    PageCount,
    advanced,
    ended,
    is_loop,
    restarted,
    seen_at,
)
from tests.factories import HOUR, MINUTE, NOON, SECOND

NEW = Backfill(1, 1, is_dry_run=False, state=BackfillState.QUEUED, created_at=NOON)
PAGE = PageCount(100, 90, {"no_address": 10})


def test_each_page_counts_and_the_last_completes_the_backfill() -> None:
    first = advanced(NEW, PAGE, cursor="a", total=150, now=NOON)
    last = advanced(
        first, PageCount(50, 40, {"no_address": 4, "invalid": 6}), cursor=None, total=None, now=NOON + SECOND
    )

    assert (first.state, first.scanned, first.queued, first.cursor) == (BackfillState.RUNNING, 100, 90, "a")
    assert (last.state, last.scanned, last.queued, last.total) == (BackfillState.COMPLETED, 150, 130, 150)
    assert last.skipped == {"no_address": 14, "invalid": 6}
    assert last.ended_at == NOON + SECOND


def test_upper_bound_of_joins_narrows_with_each_page() -> None:
    first = advanced(NEW, PAGE, cursor="a", total=250, now=NOON)
    done = ended(first, BackfillState.CANCELLED, "By hand.", NOON)

    assert NEW.joins_at_most is None
    assert first.joins_at_most == 90 + 150
    assert done.joins_at_most == 90


def test_rate_follows_the_last_minute_and_gives_the_eta() -> None:
    backfill, now = NEW, NOON
    for number in range(200):
        now += SECOND
        backfill = advanced(backfill, PAGE, cursor=str(number), total=40_000, now=now)
    rate, eta = backfill.rate(now), backfill.eta(now)
    later = backfill.rate(now + MINUTE)

    assert rate == pytest.approx(100, rel=0.01)
    assert eta is not None
    assert eta.total_seconds() == pytest.approx(200, rel=0.01)
    assert later is not None
    assert later < 40
    assert (NEW.rate(now), NEW.eta(now)) == (None, None)
    assert ended(backfill, BackfillState.FAILED, "x", now).rate(now) is None


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_loop_of_any_length_is_found(length: int) -> None:
    backfill, pages = NEW, 0
    while True:
        cursor = str(min(pages, 20) if pages < 20 else 20 + (pages - 20) % length)
        if is_loop(backfill, cursor):
            break
        backfill = advanced(backfill, PAGE, cursor=cursor, total=None, now=NOON)
        pages += 1

    assert 20 < pages <= 20 + 5 * max(length, 20)


def test_scan_without_a_loop_is_not_reported_as_one() -> None:
    backfill = NEW
    for number in range(1000):
        assert not is_loop(backfill, str(number))
        backfill = advanced(backfill, PAGE, cursor=str(number), total=None, now=NOON)

    assert not is_loop(backfill, None)


def test_restart_resets_scanned_rows_and_keeps_queued_ones() -> None:
    first = advanced(NEW, PAGE, cursor="a", total=150, now=NOON)
    again = restarted(first)

    assert (again.cursor, again.scanned, again.skipped, again.restarts) == (None, 0, {}, 1)
    assert again.queued == 90
    assert not is_loop(again, "a")


@pytest.mark.parametrize(
    ("ahead", "moment"),
    [
        (timedelta(0), NOON - 5 * MINUTE),
        (9 * MINUTE, NOON + 4 * MINUTE),
        (-HOUR, NOON - 65 * MINUTE),
        (11 * MINUTE, NOON - 5 * MINUTE),
        (None, NOON - 5 * MINUTE),
    ],
)
def test_event_time_of_a_scan_lies_before_its_first_page(ahead: timedelta | None, moment: object) -> None:
    assert seen_at(None if ahead is None else NOON + ahead, NOON) == moment


def test_only_unfinished_states_are_active() -> None:
    active = {state for state in BackfillState if replace(NEW, state=state).is_active}

    assert active == {BackfillState.QUEUED, BackfillState.RUNNING, BackfillState.WAITING}
