from collections.abc import Callable
from dataclasses import replace

import pytest

from app.domain.account import FIRST_PROBE_WAIT, BreakerState, Judgement, OpenReason, Streak, judge, reconciled
from app.domain.errors import (
    CallFailed,
    CredentialsRefused,
    LimitReached,
    NotSent,
    OutcomeUnknown,
    Permanent,
    ShareUsedUp,
    Transient,
    UnknownList,
)
from tests.factories import HOUR, MINUTE, NOON, SECOND, Clock

DOWN = Transient(9, "Sailthru has a problem.")
REFUSED = CredentialsRefused(5, "The signature does not match.")
LOST = OutcomeUnknown("timeout", "No answer came.")


class Account:
    """An account whose calls end as a test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.standing = BreakerState()
        self.streak = Streak()

    def ends(self, member: int, error: CallFailed | None, *, is_probe: bool = False) -> Judgement:
        judgement = judge(self.standing, self.streak, member, error, is_probe=is_probe, now=self.clock())
        self.standing = judgement.standing
        return judgement

    def break_down(self) -> None:
        for member in range(5):
            self.ends(member, DOWN)

    def recover(self) -> None:
        for member in range(5):
            self.ends(member, None)


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.mark.parametrize(
    ("members", "pause"),
    [
        ([1, 2, 3, 4], None),
        ([1, 2, 1, 2, 1, 2, 1, 2], None),
        ([1, 1, 1, 1, 1, 1], None),
        ([1, 2, 3, 1, 2], OpenReason.OUTAGE),
        ([1, 1, 1, 1, 2, 3], OpenReason.OUTAGE),
    ],
    ids=["four failures", "two people", "one person", "five failures of three people", "a third person at last"],
)
@pytest.mark.parametrize("error", [DOWN, LOST, NotSent("not_reached", "Nobody is there.")], ids=lambda e: e.code)
def test_an_outage_is_five_failures_in_a_row_of_three_people(
    account: Account, members: list[int], pause: OpenReason | None, error: CallFailed
) -> None:
    for member in members:
        account.ends(member, error)

    assert account.standing.pause is pause


@pytest.mark.parametrize("error", [None, Permanent(11, "Invalid email."), UnknownList(15, "No such list.")])
def test_an_answer_that_was_understood_begins_the_count_anew(account: Account, error: CallFailed | None) -> None:
    for member in range(4):
        account.ends(member, DOWN)
    account.ends(4, error)
    for member in range(4):
        account.ends(member, DOWN)

    assert account.standing.pause is None


@pytest.mark.parametrize(
    ("error", "is_spent"),
    [
        (None, False),
        (DOWN, True),
        (LOST, True),
        (UnknownList(15, "No such list."), True),
        (Permanent(11, "Invalid email."), False),
        (LimitReached(43, "Too many calls."), False),
        (ShareUsedUp("over_budget", "No room."), False),
        (REFUSED, False),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_attempts_are_spent_only_on_failures_of_ones_own(
    account: Account, error: CallFailed | None, *, is_spent: bool
) -> None:
    assert account.ends(1, error).is_spent is is_spent


def test_the_failure_that_shows_the_outage_spends_no_attempt(account: Account) -> None:
    spent = [account.ends(member, DOWN).is_spent for member in range(6)]

    assert spent == [True, True, True, True, False, False]


def test_one_refused_call_pauses(account: Account) -> None:
    account.ends(1, REFUSED)

    assert account.standing.pause is OpenReason.REFUSED
    assert account.standing.code == "5"
    assert account.standing.probe_at == NOON + 5 * SECOND


@pytest.mark.parametrize("begin", [lambda account: account.break_down(), lambda account: account.ends(1, REFUSED)])
def test_probes_wait_twice_as_long_each_time_up_to_a_minute(
    account: Account, begin: Callable[[Account], object]
) -> None:
    begin(account)
    error = REFUSED if account.standing.pause is OpenReason.REFUSED else DOWN
    waits = []
    for member in range(100):
        assert account.standing.probe_at is not None
        waits.append(account.standing.probe_at - account.clock())
        account.clock.now = account.standing.probe_at
        account.ends(member, error, is_probe=True)

    assert [wait / SECOND for wait in waits[:6]] == [5, 10, 20, 40, 60, 60]
    assert waits[-1] == MINUTE


def test_a_probe_does_not_wait_for_a_clock_that_was_wrong(account: Account) -> None:
    """What lies further ahead than the longest wait was set by a clock that has been set back since."""
    account.break_down()
    probe_at = account.standing.probe_at
    early, late = NOON - 30 * SECOND, NOON - HOUR

    assert account.standing.probes_at(NOON) == account.standing.probes_at(early) == probe_at
    assert account.standing.probes_at(late) == late
    assert account.standing.probes_at(NOON + HOUR) == NOON + HOUR


def test_calls_that_left_before_the_pause_neither_end_nor_lengthen_it(account: Account) -> None:
    account.break_down()
    paused = account.standing
    account.clock.advance(SECOND)
    account.ends(7, None)
    account.ends(8, DOWN)

    assert account.standing == paused


@pytest.mark.parametrize("error", [None, Permanent(11, "Invalid email.")])
def test_a_probe_that_is_answered_ends_the_pause(account: Account, error: CallFailed | None) -> None:
    account.break_down()
    account.clock.advance(HOUR)
    account.ends(9, error, is_probe=True)

    assert account.standing == BreakerState(paused_for=HOUR)


def test_an_outage_that_turns_out_to_be_a_refused_key_is_one_pause(account: Account) -> None:
    account.break_down()
    account.clock.advance(MINUTE)
    account.ends(9, REFUSED, is_probe=True)
    began_as_outage = account.standing
    account.clock.advance(MINUTE)
    account.ends(9, None, is_probe=True)

    assert began_as_outage.pause is OpenReason.REFUSED
    assert account.standing.paused_for == 2 * MINUTE


def test_the_running_clock_stands_still_in_pauses(account: Account) -> None:
    readings = [account.standing.running_at(account.clock())]
    for _ in range(2):
        account.break_down()
        account.clock.advance(80 * HOUR)
        readings.append(account.standing.running_at(account.clock()))
        account.ends(9, None, is_probe=True)
        account.recover()
        account.clock.advance(HOUR)
        readings.append(account.standing.running_at(account.clock()))

    assert readings == [NOON, NOON, NOON + HOUR, NOON + HOUR, NOON + 2 * HOUR]


def test_a_clock_set_back_in_a_pause_does_not_shorten_the_running_clock(account: Account) -> None:
    account.break_down()
    account.clock.advance(-HOUR)
    account.ends(9, None, is_probe=True)

    assert account.standing.paused_for == 0 * SECOND


def test_who_failed_as_a_probe_fails_alone_once(account: Account) -> None:
    """Three poison people who were probed in the outage can't make the next one by themselves at once; they can when
    they go on failing and nobody else succeeds.
    """
    account.break_down()
    for member in (1, 2, 3, 4, 5):
        account.ends(member, DOWN, is_probe=True)
    account.ends(9, None, is_probe=True)
    first = [account.ends(member, DOWN) for member in (1, 2, 3, 4, 5)]
    after_first = account.standing.pause
    for member in (1, 2, 3, 4, 5):
        account.ends(member, DOWN)

    assert all(judgement.is_spent for judgement in first)
    assert after_first is None
    assert account.standing.pause is OpenReason.OUTAGE


def test_who_goes_on_failing_while_others_succeed_never_makes_an_outage(account: Account) -> None:
    """However many they are, once each of them has failed."""
    account.break_down()
    account.ends(9, None, is_probe=True)
    pauses = []
    for _ in range(20):
        for member in range(5):
            account.ends(member, DOWN)
        pauses.append(account.standing.pause)
        account.ends(9, None)

    assert pauses == [None] * 20


def test_whose_newest_call_failed_is_remembered(account: Account) -> None:
    """So that somebody else probes: in a pause of either kind, until a call of theirs is understood."""
    account.break_down()
    account.ends(7, DOWN)
    account.ends(8, REFUSED, is_probe=True)
    account.ends(3, None)
    account.ends(4, Permanent(11, "Invalid email."))

    assert account.streak.failing == {0, 1, 2, 7, 8}


RUNS = BreakerState(paused_for=HOUR)
OUTAGE = RUNS.paused(OpenReason.OUTAGE, DOWN, NOON)
REFUSAL = RUNS.paused(OpenReason.REFUSED, REFUSED, NOON + SECOND)
LATER = NOON + MINUTE
REFUSAL_PROBED = replace(OUTAGE.probed_in_vain(DOWN, LATER), paused_at=NOON + SECOND)


@pytest.mark.parametrize(
    ("stored", "before", "after", "now_stands"),
    [
        # Nobody else has found anything.
        (RUNS, RUNS, OUTAGE, OUTAGE),
        (OUTAGE, OUTAGE, OUTAGE.probed_in_vain(DOWN, LATER), OUTAGE.probed_in_vain(DOWN, LATER)),
        (OUTAGE, OUTAGE, OUTAGE.resumed(LATER), OUTAGE.resumed(LATER)),
        (
            OUTAGE,
            OUTAGE,
            OUTAGE.paused(OpenReason.REFUSED, REFUSED, LATER),
            OUTAGE.paused(OpenReason.REFUSED, REFUSED, LATER),
        ),
        # Two found the same: the pause is as long as the first found it, and its probes go on.
        (
            OUTAGE.probed_in_vain(DOWN, LATER),
            RUNS,
            RUNS.paused(OpenReason.OUTAGE, LOST, LATER),
            OUTAGE.probed_in_vain(DOWN, LATER),
        ),
        # Found differently: one pause, from the beginning of the first.
        (OUTAGE, RUNS, REFUSAL, replace(REFUSAL, paused_at=NOON)),
        (REFUSAL, OUTAGE, OUTAGE.probed_in_vain(DOWN, LATER), REFUSAL_PROBED),
        # Another one's probe has worked meanwhile: what ours found before that is no news.
        (OUTAGE.resumed(LATER), OUTAGE, OUTAGE.probed_in_vain(DOWN, LATER), OUTAGE.resumed(LATER)),
        (OUTAGE.resumed(LATER), OUTAGE, OUTAGE.resumed(LATER + SECOND), OUTAGE.resumed(LATER)),
        # It ran again, and is paused by us: earlier pauses of others are counted.
        (OUTAGE.resumed(LATER), RUNS, OUTAGE, replace(OUTAGE, paused_for=HOUR + MINUTE)),
        # Our probe has worked: also what others found meanwhile is over, from its beginning.
        (REFUSAL, OUTAGE, OUTAGE.resumed(LATER), REFUSAL.resumed(LATER)),
        # A pause of ours that nobody could be told of is over: it counts, and ends nobody else's.
        (RUNS, RUNS, OUTAGE.resumed(LATER), OUTAGE.resumed(LATER)),
        (REFUSAL, RUNS, OUTAGE.resumed(LATER), replace(REFUSAL, paused_for=HOUR + MINUTE)),
    ],
)
def test_what_two_replicas_found_is_one_standing(
    stored: BreakerState, before: BreakerState, after: BreakerState, now_stands: BreakerState
) -> None:
    assert reconciled(stored, before, after, LATER) == now_stands


def test_the_same_found_twice_lengthens_no_pause() -> None:
    """Saved once more, since nobody knows whether the first time was written."""
    once = reconciled(RUNS, RUNS, OUTAGE, NOON)

    assert reconciled(once, RUNS, OUTAGE, LATER) == once
    assert once.probe_at == NOON + FIRST_PROBE_WAIT
