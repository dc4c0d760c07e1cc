"""The gate of one account: lets calls leave or holds them back, and raises the alarm when that changes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from app.domain.account import LONGEST_PROBE_WAIT, BreakerState, Capacity, OpenReason, Streak, judge
from app.domain.errors import CallFailed, StoreUnavailable

log = structlog.get_logger(__name__)

# A call that others overtook no longer takes one of the places, but so many times the places are out at the most.
MOST_PLACES = 8
# What other replicas have found of an account is looked at so often.
LOOK_EVERY = timedelta(seconds=1)


class Standings(Protocol):
    """Where it is kept how accounts stand."""

    async def load(self, account: str) -> BreakerState:
        """As it was saved last; running if it never was."""
        ...

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        """Keep what was found over restarts, and for all replicas; returns how it stood in fact, and how it stands
        now.
        """
        ...

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        """Take the probe that is due, so that nobody else makes one; None if another replica has it."""
        ...


class Pace(Protocol):
    """How many calls the account's limit has room for."""

    async def prepare(self, calls: int, *, backfill: bool) -> None:
        """Ask others who share the limit for room for so many calls; of a backfill, and one besides."""
        ...

    def room(self, *, backfill: bool = False) -> int:
        """Calls that may leave now."""
        ...

    def opens_at(self) -> datetime:
        """When to ask again."""
        ...


class CircuitBreaker:
    """Whether calls of one account may leave.

    Args:
        concurrency: calls in flight at most, beside those that others overtook.
        pace: the account's budget; None for one without limits.
        is_shared: other replicas call for the account too, and what they find of it counts.
    """

    def __init__(
        self,
        account: str,
        standings: Standings,
        clock: Callable[[], datetime],
        *,
        concurrency: int,
        pace: Pace | None = None,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._looked_at: datetime | None = None
        self._account = account
        self._standings = standings
        self._clock = clock
        self._concurrency = concurrency
        self._pace = pace
        self._streak = Streak()
        self._is_saved = True
        self.standing = self._stored = BreakerState()

    @property
    def pause(self) -> OpenReason | None:
        """Why only probes leave; None while the account runs."""
        return self.standing.pause

    @property
    def is_paused(self) -> bool:
        """True while only probes leave."""
        return self.standing.pause is not None

    async def open(self) -> None:
        """Go on from what was kept; an account that was paused is probed at once."""
        now = self._clock()
        self.standing = self._stored = await self._standings.load(self._account)
        if self.is_paused:
            self.standing = replace(self.standing, probe_at=now)
            if self._is_shared:
                await self._standings.save(self._account, self._stored, self.standing, now)
            self._alarm("the account is still paused, as before the restart")

    async def prepare(self, in_flight: int, *, has_backlog: bool, is_backfill: bool) -> None:
        """Find out what other replicas have found, and ask for room: with a backlog for the calls that there are places
        for, else for one, since what is not used is missing elsewhere.

        Args:
            is_backfill: only backfills have made the backlog.

        Raises:
            StoreUnavailable: that is not known.
        """
        if self._is_shared:
            await self.look()
        if self._pace is not None:
            is_full = has_backlog and not self.is_paused
            calls = max(1, self._concurrency - in_flight) if is_full else 1
            await self._pace.prepare(calls, backfill=is_full and is_backfill)

    async def look(self) -> None:
        """Find out what other replicas have found; once a second is enough."""
        now = self._clock()
        if self._looked_at is not None and timedelta(0) <= now - self._looked_at < LOOK_EVERY:
            return
        before = self.standing.pause
        if self._is_saved:
            found = await self._standings.load(self._account)
            # A call that ended meanwhile knows more.
            if self._is_saved:
                self.standing = self._stored = found
        else:
            # No call may be left whose end would save it; and the probe of a pause that is not stored is nobody's.
            await self._save(self.standing, now)
        self._looked_at = now
        if self.standing.pause is not before:
            pause = self.standing.pause
            log.info("another replica found how the account stands", account=self._account, pause=pause and str(pause))

    async def may_probe(self) -> bool:
        """Whether a probe that there is room for is ours, or that of another replica."""
        if not self._is_shared:
            return True
        now = self._clock()
        taken = await self._standings.take_probe(self._account, now, now + LONGEST_PROBE_WAIT)
        if taken is None:
            self._looked_at = None
            return False
        self.standing = self._stored = taken
        return True

    async def leave_probe(self) -> None:
        """Nobody was called for: whoever has somebody makes the probe, at once."""
        if self._is_shared and self.is_paused:
            before, now = self.standing, self._clock()
            self.standing = replace(before, probe_at=now)
            await self._save(before, now)

    def room(self, in_flight: int, *, overtaken: int = 0) -> Capacity:
        """How many calls may leave now, beside those in flight.

        Args:
            in_flight: calls without an answer.
            overtaken: those of them that take long while Sailthru answers others; they hold nobody back.
        """
        if self.is_paused:
            now = self._clock()
            is_due = self.standing.probes_at(now) <= now
            calls = int(is_due and in_flight == 0 and (self._pace is None or self._pace.room() > 0))
            return Capacity(calls, calls, is_probe=True, failing=self._streak.failing if calls else frozenset())
        places = min(self._concurrency + overtaken, MOST_PLACES * self._concurrency)
        free = max(places - in_flight, 0)
        if self._pace is None:
            return Capacity(free, free)
        return Capacity(min(free, self._pace.room()), min(free, self._pace.room(backfill=True)))

    def opens_at(self) -> datetime | None:
        """When there may be room again although no call ends; None if only a call's end makes room."""
        now = self._clock()
        probes_at = self.standing.probes_at(now)
        if probes_at > now:
            return probes_at
        if self._pace is not None and self._pace.room() <= 0:
            return self._pace.opens_at()
        return None

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        """What the end of a call means for the account; for the member, when it failed by the account's running clock
        if that counts against its retry window, else None.
        """
        now = self._clock()
        before = self.standing
        judgement = judge(before, self._streak, member_id, error, is_probe=is_probe, now=now)
        self.standing = judgement.standing
        if self.standing != before or not self._is_saved:
            before = await self._save(before, now)
        if self.standing.pause is not before.pause:
            self._alarm("the account is paused" if self.is_paused else "the account runs again")
        return self.standing.running_at(now) if judgement.is_spent else None

    async def _save(self, before: BreakerState, now: datetime) -> BreakerState:
        """Keep how the account stands; returns how it stood."""
        try:
            stored, standing = await self._standings.save(self._account, self._stored, self.standing, now)
        except StoreUnavailable as error:
            # What is in memory goes on; it is saved with the next call that ends.
            self._is_saved = False
            log.warning("the account's standing could not be saved", account=self._account, why=str(error))
            return before
        was_saved, self._is_saved = self._is_saved, True
        self.standing = self._stored = standing
        # What this replica, or another one, has told of already is not told again.
        return stored if was_saved else before

    def _alarm(self, what: str) -> None:
        pause = self.standing.pause
        tell = log.info if pause is None else log.error
        tell(
            what,
            account=self._account,
            pause=None if pause is None else str(pause),
            code=self.standing.code,
            why=self.standing.reason,
        )
