"""The circuit breaker of one Sailthru account, as pure functions: when it opens and closes, and what failures mean.

The breaker is *closed* while calls may leave. A refused key or an outage *opens* it. While it is open, one call at a
time, the *probe*, checks whether Sailthru answers again. During the probe the breaker is *half-open*. Until the breaker
closes, no member spends attempts or time of its retry window.
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
OUTAGE_FAILURES, OUTAGE_MEMBERS = 5, 3
# Tolerance for clocks of replicas that differ, and for a clock that was read before another replica stored its state.
CLOCKS_DIFFER = timedelta(seconds=10)
# Maximum number of failing members to remember. It bounds the memory when many members fail.
MOST_FAILING = 10_000


class OpenReason(StrEnum):
    """Why the circuit breaker is open."""

    REFUSED = "refused"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """The state of a circuit breaker. It is stored, so that it survives restarts.

    Args:
        open_reason: None while the breaker is closed.
        code, message: code and text of the failure that opened it, or of the newest failed probe.
        failed_probes: number of failed probes since it opened.
        probe_at: when the next probe may leave.
        was_open_for: the sum of all earlier open periods.
    """

    open_reason: OpenReason | None = None
    code: str | None = None
    message: str | None = None
    opened_at: datetime | None = None
    failed_probes: int = 0
    probe_at: datetime | None = None
    was_open_for: timedelta = timedelta(0)

    @property
    def is_open(self) -> bool:
        """True while only probes may leave."""
        return self.open_reason is not None

    def retry_clock(self, now: datetime) -> datetime:
        """Return the time by the clock that measures retry windows. It stands still while the breaker is open."""
        stands_at = now if self.opened_at is None else min(now, self.opened_at)
        return stands_at - self.was_open_for

    def next_probe_at(self, now: datetime) -> datetime:
        """Return when the next probe may leave.

        A stored time that is further ahead than any wait came from a wrong clock. The probe may then leave now.
        """
        if self.probe_at is None or not now < self.probe_at <= now + LONGEST_PROBE_WAIT + CLOCKS_DIFFER:
            return now
        return self.probe_at

    def opened(self, reason: OpenReason, error: CallFailed, now: datetime) -> "BreakerState":
        """Return the open state. A breaker that is already open keeps its opening time."""
        opened_at = self.opened_at if self.opened_at is not None else now
        return BreakerState(
            reason, str(error.code), str(error), opened_at, 0, now + FIRST_PROBE_WAIT, self.was_open_for
        )

    def probe_failed(self, error: CallFailed, now: datetime) -> "BreakerState":
        """Return the state after a failed probe. The wait before the next probe doubles."""
        failed = self.failed_probes + 1
        wait = min(FIRST_PROBE_WAIT * (1 << min(failed, 16)), LONGEST_PROBE_WAIT)
        return replace(self, code=str(error.code), message=str(error), failed_probes=failed, probe_at=now + wait)

    def closed(self, now: datetime) -> "BreakerState":
        """Return the closed state. The time since the opening is added to `was_open_for`."""
        if self.opened_at is None:
            return self
        return BreakerState(was_open_for=self.was_open_for + max(now - self.opened_at, timedelta(0)))


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many calls may leave now.

    Args:
        calls: maximum number of calls.
        backfill_calls: how many of them may be for members that only a backfill made due.
        is_probe: True if the breaker is open. The only call is then the probe.
        failing: members whose newest call failed. The probe prefers other members.
    """

    calls: int
    backfill_calls: int
    is_probe: bool = False
    failing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class AccountReport:
    """One account from the settings, without its secrets.

    Args:
        base_url: the address of its Sailthru API.
        calls_left: calls that may leave now within our share of the limit, by endpoint, such as `POST user`.
    """

    label: str
    base_url: str
    breaker: BreakerState
    calls_left: Mapping[str, int]


class Streak:
    """Counts consecutive failures, and distinguishes an outage from single members that fail."""

    def __init__(self) -> None:
        self._failures = 0
        self._members: set[int] = set()
        self._successes = 0
        # Members whose newest call failed, each with the number of successes until then.
        self._failing: dict[int, int] = {}

    @property
    def failing(self) -> frozenset[int]:
        """The members whose newest call failed, up to `MOST_FAILING` of them."""
        return frozenset(self._failing)

    def succeeded(self, member_id: int) -> None:
        """Count a readable answer."""
        self._failures = 0
        self._members.clear()
        self._successes += 1
        self._failing.pop(member_id, None)

    def failed(self, member_id: int) -> bool:
        """Count a failure. Return True if it establishes an outage.

        A member that fails again, although Sailthru has since answered for other members, fails alone. Such a failure
        is not counted, because it says nothing about the account. Only the first failure after such an answer is
        exempt: members that failed in one outage can then show the next one.
        """
        fails_alone = self._failing.get(member_id, self._successes) < self._successes
        self.note_failure(member_id)
        if fails_alone:
            return False
        self._failures += 1
        self._members.add(member_id)
        return self._failures >= OUTAGE_FAILURES and len(self._members) >= OUTAGE_MEMBERS

    def note_failure(self, member_id: int) -> None:
        """Remember that a member fails, without counting the failure. Used while the breaker is open."""
        if member_id in self._failing or len(self._failing) < MOST_FAILING:
            self._failing[member_id] = self._successes


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of one call.

    Args:
        breaker: the new state.
        is_spent: True if the attempt counts against the member's retry window.
    """

    breaker: BreakerState
    is_spent: bool


def judge(
    breaker: BreakerState,
    streak: Streak,
    member_id: int,
    error: CallFailed | None,
    *,
    is_probe: bool,
    now: datetime,
) -> Judgement:
    """Return the breaker's state after a call, and whether the call spends an attempt of the member.

    Only a probe closes the breaker, since other calls may have left before it opened. Every readable answer shows that
    Sailthru works, even the refusal of one record.
    """
    if isinstance(error, ShareUsedUp):
        return Judgement(breaker, is_spent=False)
    if isinstance(error, CredentialsRefused):
        if is_probe:
            streak.note_failure(member_id)
        return _failed_in(OpenReason.REFUSED, breaker, error, is_probe=is_probe, now=now)
    if not isinstance(error, Transient | OutcomeUnknown):
        streak.succeeded(member_id)
        # A list that stays unknown after it was created is the member's own failure.
        return Judgement(breaker.closed(now) if is_probe else breaker, is_spent=isinstance(error, UnknownList))
    if breaker.open_reason is not None:
        streak.note_failure(member_id)
        return _failed_in(breaker.open_reason, breaker, error, is_probe=is_probe, now=now)
    if streak.failed(member_id):
        return _failed_in(OpenReason.OUTAGE, breaker, error, is_probe=is_probe, now=now)
    return Judgement(breaker, is_spent=True)


def merged(stored: BreakerState, before: BreakerState, after: BreakerState, now: datetime) -> BreakerState:
    """Merge the state of this replica with the state that another replica may have stored meanwhile.

    Args:
        stored: the state in the store.
        before, after: this replica's state before and after its newest call.
    """
    if not after.is_open and not before.is_open:
        # This replica opened and closed while the store was unavailable. An opening by another replica stays.
        return replace(stored, was_open_for=max(stored.was_open_for, after.was_open_for))
    if not after.is_open:
        return stored.closed(now)
    if not stored.is_open:
        # Either another replica's probe succeeded while ours was in flight, or this replica opened the breaker.
        return stored if before.is_open else replace(after, was_open_for=stored.was_open_for)
    if not before.is_open and after.open_reason is stored.open_reason:
        return stored
    return replace(after, opened_at=stored.opened_at, was_open_for=stored.was_open_for)


def _failed_in(
    reason: OpenReason, breaker: BreakerState, error: CallFailed, *, is_probe: bool, now: datetime
) -> Judgement:
    if breaker.open_reason is not reason:
        return Judgement(breaker.opened(reason, error, now), is_spent=False)
    return Judgement(breaker.probe_failed(error, now) if is_probe else breaker, is_spent=False)
