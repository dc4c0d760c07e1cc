"""
The gate of one account: lets calls leave or holds them back, and raises the alarm when that changes.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from app.domain.account import Pause, Room, Standing, Streak, judge
from app.domain.errors import CallFailed, StoreUnavailable

log = structlog.get_logger(__name__)

# A call that others overtook no longer takes one of the places, but so many times the places are out at the most.
MOST_PLACES = 8


class Standings(Protocol):
    """
    Where it is kept how accounts stand.
    """

    async def load(self, account: str) -> Standing:
        """
        As it was saved last; running if it never was.
        """
        ...

    async def save(self, account: str, standing: Standing) -> None:
        """
        Keep it over restarts.
        """
        ...


class Pace(Protocol):
    """
    How many calls the account's limit has room for.
    """

    def room(self, *, backfill: bool = False) -> int:
        """
        Calls that may leave now.
        """
        ...

    def opens_at(self) -> datetime:
        """
        When to ask again.
        """
        ...


class Gate:
    """
    Whether calls of one account may leave.

    Args:
        concurrency: calls in flight at most, beside those that others overtook.
        pace: the account's budget; None for one without limits.
    """

    def __init__(
        self,
        account: str,
        standings: Standings,
        clock: Callable[[], datetime],
        *,
        concurrency: int,
        pace: Pace | None = None,
    ) -> None:
        self._account = account
        self._standings = standings
        self._clock = clock
        self._concurrency = concurrency
        self._pace = pace
        self._streak = Streak()
        self._is_saved = True
        self.standing = Standing()

    @property
    def pause(self) -> Pause | None:
        """
        Why only probes leave; None while the account runs.
        """
        return self.standing.pause

    @property
    def is_paused(self) -> bool:
        """
        True while only probes leave.
        """
        return self.standing.pause is not None

    async def open(self) -> None:
        """
        Go on from what was kept; an account that was paused is probed at once.
        """
        now = self._clock()
        self.standing = await self._standings.load(self._account)
        if self.is_paused:
            self.standing = replace(self.standing, probe_at=now)
            self._alarm("the account is still paused, as before the restart")

    def room(self, in_flight: int, *, overtaken: int = 0) -> Room:
        """
        How many calls may leave now, beside those in flight.

        Args:
            in_flight: calls without an answer.
            overtaken: those of them that take long while Sailthru answers others; they hold nobody back.
        """
        if self.is_paused:
            now = self._clock()
            is_due = self.standing.probes_at(now) <= now
            calls = int(is_due and in_flight == 0 and (self._pace is None or self._pace.room() > 0))
            return Room(calls, calls, is_probe=True, failing=self._streak.failing if calls else frozenset())
        places = min(self._concurrency + overtaken, MOST_PLACES * self._concurrency)
        free = max(places - in_flight, 0)
        if self._pace is None:
            return Room(free, free)
        return Room(min(free, self._pace.room()), min(free, self._pace.room(backfill=True)))

    def opens_at(self) -> datetime | None:
        """
        When there may be room again although no call ends; None if only a call's end makes room.
        """
        now = self._clock()
        probes_at = self.standing.probes_at(now)
        if probes_at > now:
            return probes_at
        if self._pace is not None and self._pace.room() <= 0:
            return self._pace.opens_at()
        return None

    async def judge(self, member_id: int, error: CallFailed | None, *, is_probe: bool) -> datetime | None:
        """
        What the end of a call means for the account; for the member, when it failed by the account's running clock if
        that counts against its retry window, else None.
        """
        now = self._clock()
        before = self.standing
        judgement = judge(before, self._streak, member_id, error, is_probe=is_probe, now=now)
        self.standing = judgement.standing
        if self.standing != before or not self._is_saved:
            await self._save()
        if self.standing.pause is not before.pause:
            self._alarm("the account is paused" if self.is_paused else "the account runs again")
        return self.standing.running_at(now) if judgement.is_spent else None

    async def _save(self) -> None:
        try:
            await self._standings.save(self._account, self.standing)
        except StoreUnavailable as error:
            # What is in memory goes on; it is saved with the next call that ends.
            self._is_saved = False
            log.warning("the account's standing could not be saved", account=self._account, why=str(error))
        else:
            self._is_saved = True

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
