"""The estimate of the database server's clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.store.database import clock as module
from app.store.database.clock import ASK_EVERY_SECONDS, StoreClock, wall_clock
from tests.factories import HOUR, NOON, SECOND


class Monotonic:
    """A monotonic clock that the test moves."""

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


def test_wall_clock_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    shown = wall_clock()

    assert before <= shown <= datetime.now(UTC)
    assert shown.tzinfo is UTC


class TestTime:
    def test_is_the_machines_time_before_the_first_answer(
        self, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "wall_clock", lambda: NOON)

        assert clock() == NOON

    def test_follows_the_server_not_the_machine(
        self, clock: StoreClock, monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The wall clock is hours off and jumps."""
        clock.learn(NOON, 1000, 1000)
        seen = []
        for hours in (-5, 0, 7):
            monkeypatch.setattr(module, "wall_clock", lambda hours=hours: NOON + hours * HOUR)
            monotonic.now += 1
            seen.append(clock())

        assert seen == [NOON + SECOND, NOON + 2 * SECOND, NOON + 3 * SECOND]

    def test_is_in_utc_if_the_server_answers_in_another_zone(self, clock: StoreClock) -> None:
        clock.learn(NOON.astimezone(timezone(timedelta(hours=5))), 1000, 1000)

        assert clock() == NOON
        assert clock().tzinfo is UTC

    def test_advances_between_answers(self, clock: StoreClock, monotonic: Monotonic) -> None:
        clock.learn(NOON, 1000, 1000)
        monotonic.now = 1000.25

        assert clock() == NOON + 0.25 * SECOND


class TestLearn:
    """Questions and answers are timed in seconds after 1000."""

    @pytest.mark.parametrize(
        ("answers", "shows"),
        [
            # The first answer: the middle of the possible range.
            ([(0, 0, 4)], -2),
            # An answer that fits changes nothing, whether it is more or less exact.
            ([(0, 0, 4), (10, 10, 14)], -2),
            ([(0, 0, 4), (10, 11.5, 12.5)], -2),
            ([(0, 0, 4), (10, 2, 30)], -2),
            # An answer that does not fit moves the clock by the smallest step, forward or back.
            ([(0, 0, 4), (10, 10, 11)], -1),
            ([(0, 0, 4), (10, 13, 14)], -3),
            ([(0, 0, 0), (100, 99, 99.5)], 0.5),
            # The server's own clock was set back or forward.
            ([(0, 0, 0), (-3600, 10, 10)], -3610),
            ([(0, 0, 0), (3600, 10, 10)], 3590),
            # After an exact answer the clock is exact.
            ([(0, 0, 4), (10, 9, 9), (20, 18, 30)], 1),
        ],
    )
    def test_moves_the_clock_by_the_smallest_step_that_fits(
        self, clock: StoreClock, monotonic: Monotonic, answers: list[tuple[float, float, float]], shows: float
    ) -> None:
        """`shows` is the time of the clock at 1000, in seconds after noon."""
        for shown, asked_at, answered_at in answers:
            clock.learn(NOON + shown * SECOND, 1000 + asked_at, 1000 + answered_at)
        monotonic.now = 1000

        assert clock() == NOON + shows * SECOND

    @pytest.mark.parametrize("longest", [0.001, 0.1, 5])
    def test_two_clocks_differ_by_at_most_the_longest_answer(self, longest: float) -> None:
        """Leases depend on this. It holds for any speed of answers and any offset of the monotonic clocks."""
        one, other = Monotonic(), Monotonic()
        clocks = StoreClock(one), StoreClock(other)
        for step in range(200):
            true = 3.0 * step
            for clock, zero, there, back in ((clocks[0], 0, 0.1, 0.9), (clocks[1], 5000, 0.8, 0.2)):
                # The server read its clock early or late between question and answer.
                way = there if step % 3 else back
                asked_at = true + zero - way * longest
                clock.learn(NOON + true * SECOND, asked_at, asked_at + longest)
            one.now, other.now = true, true + 5000

            assert abs(clocks[0]() - clocks[1]()) <= longest * SECOND
            assert abs(clocks[0]() - (NOON + true * SECOND)) <= longest * SECOND


class TestIsOld:
    def test_true_before_the_first_answer(self, clock: StoreClock) -> None:
        assert clock.is_old

    def test_true_one_second_after_an_answer(self, clock: StoreClock, monotonic: Monotonic) -> None:
        clock.learn(NOON, 990, 1000)
        ages = []
        for seconds in (0, 0.5, 0.999, ASK_EVERY_SECONDS, 60):
            monotonic.now = 1000 + seconds
            ages.append(clock.is_old)
        clock.learn(NOON, 1059, 1060)

        assert ages == [False, False, False, True, True]
        assert not clock.is_old
