"""The circuit breaker of one account: limits calls, shares its state with other replicas and raises alarms."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from app.alarms import Alarm, AlarmName, Alarms, Subject
from app.delivery.store import BreakerStore
from app.domain.account import LONGEST_PROBE_WAIT, BreakerState, Capacity, OpenReason, Streak, judge
from app.domain.destination import Throttle
from app.domain.errors import CallFailed, StoreUnavailable

log = structlog.get_logger(__name__)

# Slow calls that were overtaken do not count against the concurrency. All calls in flight together are limited to this
# many times the concurrency.
IN_FLIGHT_FACTOR = 8
# How often a replica reads the stored state, which other replicas may have changed.
READ_INTERVAL = timedelta(seconds=1)

ALARM_NAMES = {
    OpenReason.REFUSED: AlarmName.ACCOUNT_REFUSED,
    OpenReason.OUTAGE: AlarmName.ACCOUNT_OUTAGE,
}
MEANINGS = {
    OpenReason.REFUSED: "Sailthru refuses the credentials of this account. Only probes leave.",
    OpenReason.OUTAGE: "Sailthru does not answer the calls of this account. Only probes leave.",
}
NEXT_STEPS = {
    OpenReason.REFUSED: "Correct the API key, its secret or the allow list. Delivery continues once a probe succeeds.",
    OpenReason.OUTAGE: "Check Sailthru's status and the network. Delivery continues once a probe succeeds.",
}


class CircuitBreaker:
    """Decides whether calls of one account may leave.

    Args:
        concurrency: the largest number of calls in flight, not counting overtaken calls.
        throttle: the account's rate limiter; None for no limit.
        is_shared: other replicas call the same account and share this state.
    """

    def __init__(
        self,
        account: str,
        store: BreakerStore,
        clock: Callable[[], datetime],
        alarms: Alarms,
        *,
        concurrency: int,
        throttle: Throttle | None = None,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._refreshed_at: datetime | None = None
        self._account = account
        self._store = store
        self._clock = clock
        self._alarms = alarms
        self._concurrency = concurrency
        self._throttle = throttle
        self._streak = Streak()
        self._is_saved = True
        self.state = self._stored = BreakerState()

    @property
    def is_open(self) -> bool:
        """True while only probes leave."""
        return self.state.is_open

    async def restore(self) -> None:
        """Load the stored state. If the breaker is open, the next probe is due at once."""
        now = self._clock()
        self.state = self._stored = await self._store.load(self._account)
        if self.is_open:
            self.state = replace(self.state, probe_at=now)
            if self._is_shared:
                await self._store.save(self._account, self._stored, self.state, now)
        self._update_alarms(announce=True)

    async def prepare(self, in_flight: int, *, has_backlog: bool, is_backfill: bool) -> None:
        """Refresh the state and reserve a share of the rate limit.

        With a backlog, the request covers all free slots; otherwise one call. Other replicas cannot use a share that
        this replica reserves and leaves unused.

        Args:
            is_backfill: the backlog holds only backfill members.

        Raises:
            StoreUnavailable: the state or the share could not be read.
        """
        if self._is_shared:
            await self.refresh()
        if self._throttle is not None:
            has_work = has_backlog and not self.is_open
            calls = max(1, self._concurrency - in_flight) if has_work else 1
            await self._throttle.prepare(calls, backfill=has_work and is_backfill)

    async def refresh(self) -> None:
        """Read the state that other replicas may have changed, at most once a second."""
        now = self._clock()
        if self._refreshed_at is not None and timedelta(0) <= now - self._refreshed_at < READ_INTERVAL:
            return
        before = self.state.open_reason
        if self._is_saved:
            loaded = await self._store.load(self._account)
            # A call that ended during the read may have set a newer state that is not saved yet.
            if self._is_saved:
                self.state = self._stored = loaded
        else:
            # If no call is in flight, no end of a call will save the state. A probe needs the stored state.
            await self._save(self.state, now)
        self._refreshed_at = now
        reason = self.state.open_reason
        if reason is not before:
            self._update_alarms(announce=False)
            log.info("another replica changed the circuit breaker", account=self._account, open_reason=reason)

    async def reserve_probe(self) -> bool:
        """Reserve the probe that is due. Return False if another replica has reserved it."""
        if not self._is_shared:
            return True
        now = self._clock()
        reserved = await self._store.take_probe(self._account, now, now + LONGEST_PROBE_WAIT)
        if reserved is None:
            self._refreshed_at = None
            return False
        self.state = self._stored = reserved
        return True

    async def release_probe(self) -> None:
        """Release the reserved probe, because no call was made. Any replica may make the probe at once."""
        if self._is_shared and self.is_open:
            before, now = self.state, self._clock()
            self.state = replace(before, probe_at=now)
            await self._save(before, now)

    def capacity(self, in_flight: int, *, overtaken: int = 0) -> Capacity:
        """Return how many further calls may leave now.

        Args:
            in_flight: number of calls without an answer.
            overtaken: number of slow calls among them, while Sailthru answers later calls. They use no slot.
        """
        if self.is_open:
            now = self._clock()
            is_due = self.state.next_probe_at(now) <= now
            calls = int(is_due and in_flight == 0 and (self._throttle is None or self._throttle.room() > 0))
            return Capacity(calls, calls, is_probe=True, failing=self._streak.failing if calls else frozenset())
        slots = min(self._concurrency + overtaken, IN_FLIGHT_FACTOR * self._concurrency)
        free = max(slots - in_flight, 0)
        if self._throttle is None:
            return Capacity(free, free)
        return Capacity(min(free, self._throttle.room()), min(free, self._throttle.room(backfill=True)))

    def next_capacity_at(self) -> datetime | None:
        """Return when capacity may grow although no call ends; None if only the end of a call frees capacity."""
        now = self._clock()
        next_probe_at = self.state.next_probe_at(now)
        if next_probe_at > now:
            return next_probe_at
        if self._throttle is not None and self._throttle.room() <= 0:
            return self._throttle.opens_at()
        return None

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        """Record the end of a call.

        Return the time of the failure by the account's retry clock, or None if the failure does not count against the
        member's retry window.
        """
        now = self._clock()
        before = announced = self.state
        judgement = judge(before, self._streak, member_id, error, is_probe=is_probe, now=now)
        self.state = judgement.breaker
        if self.state != before or not self._is_saved:
            announced = await self._save(before, now)
        if self.state.open_reason is not before.open_reason:
            self._update_alarms(announce=self.state.open_reason is not announced.open_reason)
        return self.state.retry_clock(now) if judgement.is_spent else None

    async def _save(self, before: BreakerState, now: datetime) -> BreakerState:
        """Store the state. Return the state that was last announced, by this or another replica."""
        try:
            stored, state = await self._store.save(self._account, self._stored, self.state, now)
        except StoreUnavailable as error:
            # The state in memory applies until the end of the next call saves it.
            self._is_saved = False
            log.warning("the circuit breaker could not be saved", account=self._account, why=str(error))
            return before
        was_saved, self._is_saved = self._is_saved, True
        self.state = self._stored = state
        # If the last save failed, this replica has announced `before` already.
        return stored if was_saved else before

    def _update_alarms(self, *, announce: bool) -> None:
        """Raise the alarm of the present state and resolve the others.

        Args:
            announce: False if another replica has announced the change.
        """
        subject = Subject("account", self._account)
        state = self.state
        for reason, name in ALARM_NAMES.items():
            if reason is not state.open_reason:
                self._alarms.resolve(name, subject, announce=announce)
        if state.open_reason is not None:
            self._alarms.raise_(
                Alarm(
                    ALARM_NAMES[state.open_reason],
                    subject,
                    state.opened_at or self._clock(),
                    MEANINGS[state.open_reason],
                    NEXT_STEPS[state.open_reason],
                    {"code": state.code, "why": state.message},
                ),
                announce=announce,
            )
