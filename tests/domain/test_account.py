from collections.abc import Callable
from dataclasses import replace

import pytest

from app.domain.account import FIRST_PROBE_WAIT, BreakerState, Judgement, OpenReason, Streak, judge, merged
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
    """An account whose calls end as the test decides."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.breaker = BreakerState()
        self.streak = Streak()

    def ends(self, member: int, error: CallFailed | None, *, is_probe: bool = False) -> Judgement:
        judgement = judge(self.breaker, self.streak, member, error, is_probe=is_probe, now=self.clock())
        self.breaker = judgement.breaker
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
    ("members", "open_reason"),
    [
        ([1, 2, 3, 4], None),
        ([1, 2, 1, 2, 1, 2, 1, 2], None),
        ([1, 1, 1, 1, 1, 1], None),
        ([1, 2, 3, 1, 2], OpenReason.OUTAGE),
        ([1, 1, 1, 1, 2, 3], OpenReason.OUTAGE),
    ],
    ids=["four failures", "two members", "one member", "five failures of three members", "third member last"],
)
@pytest.mark.parametrize("error", [DOWN, LOST, NotSent("not_reached", "Not reached.")], ids=lambda e: e.code)
def test_five_failures_in_a_row_of_three_members_are_an_outage(
    account: Account, members: list[int], open_reason: OpenReason | None, error: CallFailed
) -> None:
    for member in members:
        account.ends(member, error)

    assert account.breaker.open_reason is open_reason


@pytest.mark.parametrize("error", [None, Permanent(11, "Invalid email."), UnknownList(15, "No such list.")])
def test_understood_answer_resets_failure_count(account: Account, error: CallFailed | None) -> None:
    for member in range(4):
        account.ends(member, DOWN)
    account.ends(4, error)
    for member in range(4):
        account.ends(member, DOWN)

    assert account.breaker.open_reason is None


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
def test_only_own_failures_spend_attempts(account: Account, error: CallFailed | None, *, is_spent: bool) -> None:
    assert account.ends(1, error).is_spent is is_spent


def test_failure_that_establishes_outage_spends_no_attempt(account: Account) -> None:
    spent = [account.ends(member, DOWN).is_spent for member in range(6)]

    assert spent == [True, True, True, True, False, False]


def test_one_refused_call_opens_breaker(account: Account) -> None:
    account.ends(1, REFUSED)

    assert account.breaker.open_reason is OpenReason.REFUSED
    assert account.breaker.code == "5"
    assert account.breaker.probe_at == NOON + 5 * SECOND


@pytest.mark.parametrize("begin", [lambda account: account.break_down(), lambda account: account.ends(1, REFUSED)])
def test_probe_wait_doubles_up_to_one_minute(account: Account, begin: Callable[[Account], object]) -> None:
    begin(account)
    error = REFUSED if account.breaker.open_reason is OpenReason.REFUSED else DOWN
    waits = []
    for member in range(100):
        assert account.breaker.probe_at is not None
        waits.append(account.breaker.probe_at - account.clock())
        account.clock.now = account.breaker.probe_at
        account.ends(member, error, is_probe=True)

    assert [wait / SECOND for wait in waits[:6]] == [5, 10, 20, 40, 60, 60]
    assert waits[-1] == MINUTE


def test_probe_does_not_wait_for_time_set_by_wrong_clock(account: Account) -> None:
    """A time further ahead than the longest wait was set by a clock that has been set back since."""
    account.break_down()
    probe_at = account.breaker.probe_at
    early, late = NOON - 30 * SECOND, NOON - HOUR

    assert account.breaker.next_probe_at(NOON) == account.breaker.next_probe_at(early) == probe_at
    assert account.breaker.next_probe_at(late) == late
    assert account.breaker.next_probe_at(NOON + HOUR) == NOON + HOUR


def test_calls_from_before_opening_do_not_change_breaker(account: Account) -> None:
    account.break_down()
    opened = account.breaker
    account.clock.advance(SECOND)
    account.ends(7, None)
    account.ends(8, DOWN)

    assert account.breaker == opened


@pytest.mark.parametrize("error", [None, Permanent(11, "Invalid email.")])
def test_answered_probe_closes_breaker(account: Account, error: CallFailed | None) -> None:
    account.break_down()
    account.clock.advance(HOUR)
    account.ends(9, error, is_probe=True)

    assert account.breaker == BreakerState(was_open_for=HOUR)


def test_outage_that_becomes_refused_key_is_one_open_period(account: Account) -> None:
    account.break_down()
    account.clock.advance(MINUTE)
    account.ends(9, REFUSED, is_probe=True)
    while_refused = account.breaker
    account.clock.advance(MINUTE)
    account.ends(9, None, is_probe=True)

    assert while_refused.open_reason is OpenReason.REFUSED
    assert account.breaker.was_open_for == 2 * MINUTE


def test_retry_clock_stands_still_while_open(account: Account) -> None:
    readings = [account.breaker.retry_clock(account.clock())]
    for _ in range(2):
        account.break_down()
        account.clock.advance(80 * HOUR)
        readings.append(account.breaker.retry_clock(account.clock()))
        account.ends(9, None, is_probe=True)
        account.recover()
        account.clock.advance(HOUR)
        readings.append(account.breaker.retry_clock(account.clock()))

    assert readings == [NOON, NOON, NOON + HOUR, NOON + HOUR, NOON + 2 * HOUR]


def test_clock_set_back_while_open_does_not_change_retry_clock(account: Account) -> None:
    account.break_down()
    account.clock.advance(-HOUR)
    account.ends(9, None, is_probe=True)

    assert account.breaker.was_open_for == 0 * SECOND


def test_member_that_failed_as_probe_fails_alone_once(account: Account) -> None:
    """Members that were probed in an outage establish a new one only if they fail again without other successes."""
    account.break_down()
    for member in (1, 2, 3, 4, 5):
        account.ends(member, DOWN, is_probe=True)
    account.ends(9, None, is_probe=True)
    first = [account.ends(member, DOWN) for member in (1, 2, 3, 4, 5)]
    after_first = account.breaker.open_reason
    for member in (1, 2, 3, 4, 5):
        account.ends(member, DOWN)

    assert all(judgement.is_spent for judgement in first)
    assert after_first is None
    assert account.breaker.open_reason is OpenReason.OUTAGE


def test_members_failing_while_others_succeed_never_make_outage(account: Account) -> None:
    """This holds for any number of members, once each of them has failed."""
    account.break_down()
    account.ends(9, None, is_probe=True)
    reasons = []
    for _ in range(20):
        for member in range(5):
            account.ends(member, DOWN)
        reasons.append(account.breaker.open_reason)
        account.ends(9, None)

    assert reasons == [None] * 20


def test_members_whose_newest_call_failed_are_remembered(account: Account) -> None:
    """The probe prefers other members. A readable answer removes a member from the failing ones."""
    account.break_down()
    account.ends(7, DOWN)
    account.ends(8, REFUSED, is_probe=True)
    account.ends(3, None)
    account.ends(4, Permanent(11, "Invalid email."))

    assert account.streak.failing == {0, 1, 2, 7, 8}


RUNS = BreakerState(was_open_for=HOUR)
OUTAGE = RUNS.opened(OpenReason.OUTAGE, DOWN, NOON)
REFUSAL = RUNS.opened(OpenReason.REFUSED, REFUSED, NOON + SECOND)
LATER = NOON + MINUTE
REFUSAL_PROBED = replace(OUTAGE.probe_failed(DOWN, LATER), opened_at=NOON + SECOND)


@pytest.mark.parametrize(
    ("stored", "before", "after", "expected"),
    [
        # No other replica changed the state.
        (RUNS, RUNS, OUTAGE, OUTAGE),
        (OUTAGE, OUTAGE, OUTAGE.probe_failed(DOWN, LATER), OUTAGE.probe_failed(DOWN, LATER)),
        (OUTAGE, OUTAGE, OUTAGE.closed(LATER), OUTAGE.closed(LATER)),
        (
            OUTAGE,
            OUTAGE,
            OUTAGE.opened(OpenReason.REFUSED, REFUSED, LATER),
            OUTAGE.opened(OpenReason.REFUSED, REFUSED, LATER),
        ),
        # Both replicas opened for the same reason: the opening time and probes of the first one stay.
        (
            OUTAGE.probe_failed(DOWN, LATER),
            RUNS,
            RUNS.opened(OpenReason.OUTAGE, LOST, LATER),
            OUTAGE.probe_failed(DOWN, LATER),
        ),
        # The replicas opened for different reasons: there is one open period since the first opening.
        (OUTAGE, RUNS, REFUSAL, replace(REFUSAL, opened_at=NOON)),
        (REFUSAL, OUTAGE, OUTAGE.probe_failed(DOWN, LATER), REFUSAL_PROBED),
        # The other replica's probe succeeded meanwhile: our earlier failure does not count.
        (OUTAGE.closed(LATER), OUTAGE, OUTAGE.probe_failed(DOWN, LATER), OUTAGE.closed(LATER)),
        (OUTAGE.closed(LATER), OUTAGE, OUTAGE.closed(LATER + SECOND), OUTAGE.closed(LATER)),
        # We opened a closed breaker: earlier open periods of other replicas count.
        (OUTAGE.closed(LATER), RUNS, OUTAGE, replace(OUTAGE, was_open_for=HOUR + MINUTE)),
        # Our probe succeeded: the open period of other replicas ends too.
        (REFUSAL, OUTAGE, OUTAGE.closed(LATER), REFUSAL.closed(LATER)),
        # Our breaker opened and closed while the store was unavailable: the stored breaker stays open.
        (RUNS, RUNS, OUTAGE.closed(LATER), OUTAGE.closed(LATER)),
        (REFUSAL, RUNS, OUTAGE.closed(LATER), replace(REFUSAL, was_open_for=HOUR + MINUTE)),
    ],
)
def test_findings_of_two_replicas_merge(
    stored: BreakerState, before: BreakerState, after: BreakerState, expected: BreakerState
) -> None:
    assert merged(stored, before, after, LATER) == expected


def test_merging_a_finding_twice_changes_nothing() -> None:
    """A replica repeats a save if it does not know the outcome of the first one."""
    once = merged(RUNS, RUNS, OUTAGE, NOON)

    assert merged(once, RUNS, OUTAGE, LATER) == once
    assert once.probe_at == NOON + FIRST_PROBE_WAIT
