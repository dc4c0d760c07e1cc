"""The circuit breaker of one account at work: it lets calls leave, shares its state with replicas and raises alarms."""

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

# A slow call that later calls overtook gives its place back. This bounds the calls in flight: so many times the places.
MOST_PLACES = 8
# How often a replica reads what the other replicas stored about an account.
LOOK_EVERY = timedelta(seconds=1)

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
        concurrency: calls in flight at most, apart from those that others overtook.
        throttle: the account's rate limit; None for no limit.
        is_shared: other replicas call the same account, and their findings count.
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
        self._looked_at: datetime | None = None
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
        """Continue with the stored state. A breaker that was open is probed at once."""
        now = self._clock()
        self.state = self._stored = await self._store.load(self._account)
        if self.is_open:
            self.state = replace(self.state, probe_at=now)
            if self._is_shared:
                await self._store.save(self._account, self._stored, self.state, now)
        self._update_alarms(announce=True)

    async def prepare(self, in_flight: int, *, has_backlog: bool, is_backfill: bool) -> None:
        """Read what other replicas found, and ask them for a share of the rate limit.

        With a backlog it asks for all free places, else for one call: what it does not use is lost to the others.

        Args:
            is_backfill: only backfills made the backlog.

        Raises:
            StoreUnavailable: that is not known.
        """
        if self._is_shared:
            await self.look()
        if self._throttle is not None:
            is_full = has_backlog and not self.is_open
            calls = max(1, self._concurrency - in_flight) if is_full else 1
            await self._throttle.prepare(calls, backfill=is_full and is_backfill)

    async def look(self) -> None:
        """Read what other replicas found, at most once a second."""
        now = self._clock()
        if self._looked_at is not None and timedelta(0) <= now - self._looked_at < LOOK_EVERY:
            return
        before = self.state.open_reason
        if self._is_saved:
            found = await self._store.load(self._account)
            # A call that ended meanwhile knows more.
            if self._is_saved:
                self.state = self._stored = found
        else:
            # Perhaps no call is in flight whose end would save the state. A probe needs the stored state.
            await self._save(self.state, now)
        self._looked_at = now
        reason = self.state.open_reason
        if reason is not before:
            self._update_alarms(announce=False)
            log.info("another replica changed the circuit breaker", account=self._account, open_reason=reason)

    async def may_probe(self) -> bool:
        """Reserve the probe that is due. False if another replica has it."""
        if not self._is_shared:
            return True
        now = self._clock()
        taken = await self._store.take_probe(self._account, now, now + LONGEST_PROBE_WAIT)
        if taken is None:
            self._looked_at = None
            return False
        self.state = self._stored = taken
        return True

    async def release_probe(self) -> None:
        """Give the probe back, because no call was made. Any replica may make it at once."""
        if self._is_shared and self.is_open:
            before, now = self.state, self._clock()
            self.state = replace(before, probe_at=now)
            await self._save(before, now)

    def capacity(self, in_flight: int, *, overtaken: int = 0) -> Capacity:
        """How many calls may leave now, besides those in flight.

        Args:
            in_flight: calls without an answer.
            overtaken: those of them that take long while Sailthru answers others. They keep no place.
        """
        if self.is_open:
            now = self._clock()
            is_due = self.state.next_probe_at(now) <= now
            calls = int(is_due and in_flight == 0 and (self._throttle is None or self._throttle.room() > 0))
            return Capacity(calls, calls, is_probe=True, failing=self._streak.failing if calls else frozenset())
        places = min(self._concurrency + overtaken, MOST_PLACES * self._concurrency)
        free = max(places - in_flight, 0)
        if self._throttle is None:
            return Capacity(free, free)
        return Capacity(min(free, self._throttle.room()), min(free, self._throttle.room(backfill=True)))

    def next_capacity_at(self) -> datetime | None:
        """When there may be capacity again although no call ends; None if only the end of a call frees some."""
        now = self._clock()
        next_probe_at = self.state.next_probe_at(now)
        if next_probe_at > now:
            return next_probe_at
        if self._throttle is not None and self._throttle.room() <= 0:
            return self._throttle.opens_at()
        return None

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        """Record the end of a call.

        Returns when the call failed by the account's retry clock, if that counts against the member's retry window;
        else None.
        """
        now = self._clock()
        before = known = self.state
        judgement = judge(before, self._streak, member_id, error, is_probe=is_probe, now=now)
        self.state = judgement.breaker
        if self.state != before or not self._is_saved:
            known = await self._save(before, now)
        if self.state.open_reason is not before.open_reason:
            self._update_alarms(announce=self.state.open_reason is not known.open_reason)
        return self.state.retry_clock(now) if judgement.is_spent else None

    async def _save(self, before: BreakerState, now: datetime) -> BreakerState:
        """Store the state. Returns the state before this finding, as far as it was announced."""
        try:
            stored, state = await self._store.save(self._account, self._stored, self.state, now)
        except StoreUnavailable as error:
            # The state in memory counts meanwhile. The end of the next call saves it.
            self._is_saved = False
            log.warning("the circuit breaker could not be saved", account=self._account, why=str(error))
            return before
        was_saved, self._is_saved = self._is_saved, True
        self.state = self._stored = state
        # What this or another replica has announced is not announced again.
        return stored if was_saved else before

    def _update_alarms(self, *, announce: bool) -> None:
        """Raise the alarm of the state, and resolve the others.

        Args:
            announce: False if another replica announced the change.
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
