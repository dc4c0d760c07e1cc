"""Account: whether calls of one Sailthru account may leave, and what its failures mean for those who waited.

A refused key or an outage is nobody's fault: the account pauses, one call at a time probes whether Sailthru answers
again, and neither attempts nor the retry window of anybody are spent meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.errors import (
    CallFailed,
    CredentialsRefused,
    OutcomeUnknown,
    ShareUsedUp,
    Transient,
    UnknownList,
)

FIRST_PROBE_WAIT, LONGEST_PROBE_WAIT = timedelta(seconds=5), timedelta(seconds=60)
OUTAGE_FAILURES, OUTAGE_PEOPLE = 5, 3
# Replicas look at their clocks a moment before they see what another one has put down, and their clocks are not quite
# the same.
CLOCKS_DIFFER = timedelta(seconds=10)
# Members that failed are remembered so that those who can't work are told from an outage; a flood of them must not be.
MOST_FAILING = 10_000


class OpenReason(StrEnum):
    """Why no call of an account leaves but probes."""

    REFUSED = "refused"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """How an account stands; kept over restarts.

    Args:
        pause: None while calls may leave.
        code, reason: of the failure that paused it, or that the newest probe met.
        probes: failed so far in this pause; `probe_at` is when the next may leave.
        paused_for: how long all earlier pauses were.
    """

    pause: OpenReason | None = None
    code: str | None = None
    reason: str | None = None
    paused_at: datetime | None = None
    probes: int = 0
    probe_at: datetime | None = None
    paused_for: timedelta = timedelta(0)

    def running_at(self, now: datetime) -> datetime:
        """The account's running clock, which stands still during pauses: retry windows are measured by it."""
        stands_at = now if self.paused_at is None else min(now, self.paused_at)
        return stands_at - self.paused_for

    def probes_at(self, now: datetime) -> datetime:
        """When the next probe may leave; now where that lies further ahead than any wait, since our clock was set
        back.
        """
        if self.probe_at is None or not now < self.probe_at <= now + LONGEST_PROBE_WAIT + CLOCKS_DIFFER:
            return now
        return self.probe_at

    def paused(self, pause: OpenReason, error: CallFailed, now: datetime) -> "BreakerState":
        """From now on only probes leave. A pause that turns out to have another reason goes on as one."""
        began_at = self.paused_at if self.paused_at is not None else now
        return BreakerState(pause, str(error.code), str(error), began_at, 0, now + FIRST_PROBE_WAIT, self.paused_for)

    def probed_in_vain(self, error: CallFailed, now: datetime) -> "BreakerState":
        """The next probe leaves after twice the wait."""
        probes = self.probes + 1
        wait = min(FIRST_PROBE_WAIT * (1 << min(probes, 16)), LONGEST_PROBE_WAIT)
        return replace(self, code=str(error.code), reason=str(error), probes=probes, probe_at=now + wait)

    def resumed(self, now: datetime) -> "BreakerState":
        """Calls may leave again; the pause is added to those before."""
        if self.paused_at is None:
            return self
        return BreakerState(paused_for=self.paused_for + max(now - self.paused_at, timedelta(0)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many calls may leave: in all, and of those for members that only a backfill made due. A probe is one call.

    Args:
        failing: for a probe, the members whose newest call failed: it is somebody else, as long as there is one.
    """

    calls: int
    backfill_calls: int
    is_probe: bool = False
    failing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class AccountReport:
    """One account of the settings, without its secrets, and how it stands.

    Args:
        base_url: where its Sailthru answers.
        calls_left: how many calls may leave now within our share of the limit, by names such as `POST user`.
    """

    label: str
    base_url: str
    standing: BreakerState
    calls_left: Mapping[str, int]


class Streak:
    """Failures in a row, which tell an outage from people whose own calls fail."""

    def __init__(self) -> None:
        self._failures = 0
        self._people: set[int] = set()
        self._successes = 0
        # Whose newest call failed, each with the successes of others until then.
        self._failing: dict[int, int] = {}

    @property
    def failing(self) -> frozenset[int]:
        """Whose newest call failed, as far as is remembered."""
        return frozenset(self._failing)

    def succeeded(self, member_id: int) -> None:
        """Sailthru answered for somebody."""
        self._failures = 0
        self._people.clear()
        self._successes += 1
        self._failing.pop(member_id, None)

    def failed(self, member_id: int) -> bool:
        """True if this failure makes it an outage.

        Who failed before, and fails again although Sailthru has answered for others since, fails alone, which says
        nothing of others. Only the first time after such an answer: else those who failed in one outage could not show
        the next.
        """
        fails_alone = self._failing.get(member_id, self._successes) < self._successes
        self.noted(member_id)
        if fails_alone:
            return False
        self._failures += 1
        self._people.add(member_id)
        return self._failures >= OUTAGE_FAILURES and len(self._people) >= OUTAGE_PEOPLE

    def noted(self, member_id: int) -> None:
        """Remember a failure that is no news, since the account is paused."""
        if member_id in self._failing or len(self._failing) < MOST_FAILING:
            self._failing[member_id] = self._successes


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the end of one call means.

    Args:
        standing: of the account from now on.
        is_spent: the attempt counts against the member's retry window.
    """

    standing: BreakerState
    is_spent: bool


def judge(
    standing: BreakerState,
    streak: Streak,
    member_id: int,
    error: CallFailed | None,
    *,
    is_probe: bool,
    now: datetime,
) -> Judgement:
    """How the account stands after a call has ended, and whether its failure is the member's own.

    A call that had left before the pause began says nothing about its end; only a probe does. Every answer that was
    understood, also a refusal of this one record, shows that Sailthru answers.
    """
    if isinstance(error, ShareUsedUp):
        return Judgement(standing, is_spent=False)
    if isinstance(error, CredentialsRefused):
        if is_probe:
            streak.noted(member_id)
        return _failed_in(OpenReason.REFUSED, standing, error, is_probe=is_probe, now=now)
    if not isinstance(error, Transient | OutcomeUnknown):
        streak.succeeded(member_id)
        # A list that stays unknown although it was just made is the member's own failure.
        return Judgement(standing.resumed(now) if is_probe else standing, is_spent=isinstance(error, UnknownList))
    if standing.pause is not None:
        streak.noted(member_id)
        return _failed_in(standing.pause, standing, error, is_probe=is_probe, now=now)
    if streak.failed(member_id):
        return _failed_in(OpenReason.OUTAGE, standing, error, is_probe=is_probe, now=now)
    return Judgement(standing, is_spent=True)


def reconciled(stored: BreakerState, before: BreakerState, after: BreakerState, now: datetime) -> BreakerState:
    """How an account stands after what one replica has found, `after` in place of `before`, where another may have
    stored something else meanwhile.
    """
    if after.pause is None and before.pause is None:
        # A pause of ours that could not be stored is over; what another one has found is not.
        return replace(stored, paused_for=max(stored.paused_for, after.paused_for))
    if after.pause is None:
        return stored.resumed(now)
    if stored.pause is None:
        # Paused by us; or another one's probe worked while ours was under way.
        return replace(after, paused_for=stored.paused_for) if before.pause is None else stored
    if before.pause is None and after.pause is stored.pause:
        return stored
    return replace(after, paused_at=stored.paused_at, paused_for=stored.paused_for)


def _failed_in(
    pause: OpenReason, standing: BreakerState, error: CallFailed, *, is_probe: bool, now: datetime
) -> Judgement:
    if standing.pause is not pause:
        return Judgement(standing.paused(pause, error, now), is_spent=False)
    return Judgement(standing.probed_in_vain(error, now) if is_probe else standing, is_spent=False)
