"""The database's clock as a process knows it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.store.database import clock as module
from app.store.database.clock import ASK_EVERY_SECONDS, StoreClock, wall_clock
from tests.factories import HOUR, NOON, SECOND


class Monotonic:
    """Seconds that only go forward, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def clock(monotonic: Monotonic) -> StoreClock:
    return StoreClock(monotonic)


def test_the_wall_clock_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    confirmed = wall_clock()

    assert before <= confirmed <= datetime.now(UTC)
    assert confirmed.tzinfo is UTC


class TestTheTime:
    def test_is_the_machines_own_until_the_database_was_asked(
        self, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "wall_clock", lambda: NOON)

        assert clock() == NOON

    def test_is_the_databases_whatever_the_machine_believes(
        self, clock: StoreClock, monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wall clock that is hours off, and is set while we run, changes nothing."""
        clock.learn(NOON, 1000, 1000)
        seen = []
        for hours in (-5, 0, 7):
            monkeypatch.setattr(module, "wall_clock", lambda hours=hours: NOON + hours * HOUR)
            monotonic.now += 1
            seen.append(clock())

        assert seen == [NOON + SECOND, NOON + 2 * SECOND, NOON + 3 * SECOND]

    def test_is_in_utc_whatever_zone_the_database_speaks_in(self, clock: StoreClock) -> None:
        clock.learn(NOON.astimezone(timezone(timedelta(hours=5))), 1000, 1000)

        assert clock() == NOON
        assert clock().tzinfo is UTC

    def test_goes_on_between_answers(self, clock: StoreClock, monotonic: Monotonic) -> None:
        clock.learn(NOON, 1000, 1000)
        monotonic.now = 1000.25

        assert clock() == NOON + 0.25 * SECOND


class TestAnAnswer:
    """It was true at some moment between question and answer, which are counted from 1000."""

    @pytest.mark.parametrize(
        ("answers", "shows"),
        [
            # The first: the middle of what it may be.
            ([(0, 0, 4)], -2),
            # One that fits changes nothing, be it more exact or less.
            ([(0, 0, 4), (10, 10, 14)], -2),
            ([(0, 0, 4), (10, 11.5, 12.5)], -2),
            ([(0, 0, 4), (10, 2, 30)], -2),
            # One that does not moves it as little as makes it fit, forward and back.
            ([(0, 0, 4), (10, 10, 11)], -1),
            ([(0, 0, 4), (10, 13, 14)], -3),
            ([(0, 0, 0), (100, 99, 99.5)], 0.5),
            # The database's own clock was set: back and forward.
            ([(0, 0, 0), (-3600, 10, 10)], -3610),
            ([(0, 0, 0), (3600, 10, 10)], 3590),
            # What is known after an exact one is exact.
            ([(0, 0, 4), (10, 9, 9), (20, 18, 30)], 1),
        ],
    )
    def test_moves_the_clock_as_little_as_makes_it_fit(
        self, clock: StoreClock, monotonic: Monotonic, answers: list[tuple[float, float, float]], shows: float
    ) -> None:
        """The clock is said as what it shows at 1000, in seconds after noon."""
        for confirmed, asked_at, answered_at in answers:
            clock.learn(NOON + confirmed * SECOND, 1000 + asked_at, 1000 + answered_at)
        monotonic.now = 1000

        assert clock() == NOON + shows * SECOND

    @pytest.mark.parametrize("longest", [0.001, 0.1, 5])
    def test_two_that_ask_one_clock_differ_by_no_more_than_they_waited(self, longest: float) -> None:
        """However slow answers are, and however far apart the processes' monotonic clocks: leases are measured by
        it.
        """
        one, other = Monotonic(), Monotonic()
        clocks = StoreClock(one), StoreClock(other)
        for step in range(200):
            true = 3.0 * step
            for clock, zero, there, back in ((clocks[0], 0, 0.1, 0.9), (clocks[1], 5000, 0.8, 0.2)):
                # Now on the way there, now on the way back: what is known of it is only that it was in between.
                way = there if step % 3 else back
                asked_at = true + zero - way * longest
                clock.learn(NOON + true * SECOND, asked_at, asked_at + longest)
            one.now, other.now = true, true + 5000

            assert abs(clocks[0]() - clocks[1]()) <= longest * SECOND
            assert abs(clocks[0]() - (NOON + true * SECOND)) <= longest * SECOND


class TestIsOld:
    def test_before_the_first_answer(self, clock: StoreClock) -> None:
        assert clock.is_old

    def test_a_second_after_an_answer(self, clock: StoreClock, monotonic: Monotonic) -> None:
        """Counted from when it came; another answer makes it young again."""
        clock.learn(NOON, 990, 1000)
        ages = []
        for seconds in (0, 0.5, 0.999, ASK_EVERY_SECONDS, 60):
            monotonic.now = 1000 + seconds
            ages.append(clock.is_old)
        clock.learn(NOON, 1059, 1060)

        assert ages == [False, False, False, True, True]
        assert not clock.is_old
