"""What happens to a call beside being carried out: how long it takes, whether it is held open, and what goes wrong.

The one place that is asked about every signed call, and so the place for further ways to misbehave.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.sandbox import faults
from app.sandbox.answers import Answer
from app.sandbox.calls import ENDPOINTS, METHODS, Call
from app.sandbox.patience import Patience


@dataclass(frozen=True)
class Hold:
    """Which calls stay open until the release, at which point, and what then becomes of one whose client has hung up
    before it was applied.
    """

    after: Literal["apply", "before"] = "apply"
    then: Literal["apply", "drop"] = "apply"
    methods: frozenset[str] = METHODS
    endpoints: frozenset[str] = ENDPOINTS

    def covers(self, call: Call) -> bool:
        """Whether this call is to be held."""
        return call.method in self.methods and call.endpoint in self.endpoints


class Behaviour:
    """The seam between a call and its effect.

    Args:
        latency: seconds, the mean and how far from it at most; half is spent before the call is applied, half after.
        dice: draws the latency.
    """

    def __init__(self, *, latency: tuple[float, float] = (0.0, 0.0), dice: random.Random | None = None) -> None:
        self.latency = latency
        self.hold: Hold | None = None
        self.patience = Patience()
        self._dice = dice or random.SystemRandom()
        self._held: set[Call] = set()
        self._released = asyncio.Event()

    async def carry_out(self, call: Call, apply: Callable[[], Answer]) -> Answer | None:
        """The answer to the call, or None to hang up on the client. `apply` does what the call asks for and never
        raises; it may be called early, late, twice or not at all.
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
        """Ends the hold and lets every held call go on. Returns how many there were."""
        self.hold = None
        self._released.set()
        self._released = asyncio.Event()
        return len(self._held)

    @property
    def held(self) -> int:
        """Calls being kept open, whether or not somebody still waits for them."""
        return len(self._held)

    @property
    def held_abandoned(self) -> int:
        """Those of the held calls whose client has hung up."""
        return sum(call.is_abandoned for call in self._held)

    async def _fail(self, call: Call, fault: faults.Fault, apply: Callable[[], Answer]) -> Answer | None:
        """As the fault says; what is ended early and not applied by then never is."""
        normal = faults.DONE
        if not await self.patience.pause(fault.applies_after):
            return None
        if fault.applied:
            normal = apply()
        if isinstance(fault, faults.Hang):
            await self.patience.silence(call.gone.wait())
        else:
            await self.patience.pause(fault.seconds - fault.applies_after)
        return faults.answer(fault, normal)

    async def _keep_open(self, call: Call) -> None:
        self._held.add(call)
        try:
            await self._released.wait()
        finally:
            self._held.discard(call)
