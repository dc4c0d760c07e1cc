"""Executes a call with its latency, hold and fault."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.sandbox.delays import Delays
from app.sandbox.faults import Fault, Hang
from app.sandbox.sailthru.answers import OK, Answer, faulty_answer
from app.sandbox.sailthru.calls import ENDPOINTS, METHODS, Call


@dataclass(frozen=True)
class Hold:
    """Selects the calls that stay open until they are released.

    Attributes:
        after: "apply" holds a call after it is applied, "before" holds it before that.
        then: with "before", "drop" does not apply a call whose client disconnects during the hold.
    """

    after: Literal["apply", "before"] = "apply"
    then: Literal["apply", "drop"] = "apply"
    methods: frozenset[str] = METHODS
    endpoints: frozenset[str] = ENDPOINTS

    def covers(self, call: Call) -> bool:
        return call.method in self.methods and call.endpoint in self.endpoints


class Executor:
    """Adds latency, holds and faults to each signed call.

    Args:
        latency: the mean and the largest deviation, in seconds. Half of it precedes the call, half follows.
        dice: draws the latency.
    """

    def __init__(self, *, latency: tuple[float, float] = (0.0, 0.0), dice: random.Random | None = None) -> None:
        self.latency = latency
        self.hold: Hold | None = None
        self.delays = Delays()
        self._dice = dice or random.SystemRandom()
        self._held: set[Call] = set()
        self._released = asyncio.Event()

    async def execute(self, call: Call, apply: Callable[[], Answer]) -> Answer | None:
        """Return the answer, or None to disconnect the client.

        `apply` applies the call and never raises. It may be called early, late or never.
        """
        hold = self.hold if self.hold and self.hold.covers(call) else None
        mean, spread = self.latency
        half = max(0.0, self._dice.uniform(mean - spread, mean + spread)) / 2
        if half:
            await asyncio.sleep(half)
        if hold and hold.after == "before":
            await self._keep_open(call)
            if call.is_abandoned and hold.then == "drop":
                return None
        answer = await self._fail(call, call.fault, apply) if call.fault else apply()
        if answer is None:
            return None
        if hold and hold.after == "apply":
            await self._keep_open(call)
        if half:
            await asyncio.sleep(half)
        return answer

    def release(self) -> int:
        """End the hold and return how many calls were held."""
        self.hold = None
        self._released.set()
        self._released = asyncio.Event()
        return len(self._held)

    @property
    def held(self) -> int:
        """The number of held calls, including those whose clients have disconnected."""
        return len(self._held)

    @property
    def held_abandoned(self) -> int:
        """The number of held calls whose clients have disconnected."""
        return sum(call.is_abandoned for call in self._held)

    async def _fail(self, call: Call, fault: Fault, apply: Callable[[], Answer]) -> Answer | None:
        normal = OK
        # If the wait is ended early, the call is never applied.
        if not await self.delays.sleep(fault.applies_after):
            return None
        if fault.applied:
            normal = apply()
        if isinstance(fault, Hang):
            await self.delays.until(call.abandoned.wait())
        else:
            await self.delays.sleep(fault.seconds - fault.applies_after)
        return faulty_answer(fault, normal)

    async def _keep_open(self, call: Call) -> None:
        self._held.add(call)
        try:
            await self._released.wait()
        finally:
            self._held.discard(call)
