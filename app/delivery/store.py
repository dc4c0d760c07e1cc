"""What delivery needs of the store: see `app.store.members.members` and `app.store.replicas.accounts`.

Every call may raise `StoreUnavailable`.
"""

from datetime import datetime, timedelta
from typing import Protocol

from app.domain.account import BreakerState, Capacity
from app.domain.call import Call, Claim
from app.domain.settlement import Settled, Settlement


class MemberQueue(Protocol):
    """Due members, their claims, and the outcomes of their calls."""

    async def claim(self, account: str, *, capacity: Capacity, lease_for: timedelta) -> list[Claim]:
        """Claim due members, up to the capacity."""
        ...

    async def next_due_at(self, account: str) -> datetime | None:
        """Return when the next member is due; None if none is pending."""
        ...

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Record a request and renew the lease; False if the lease was lost."""
        ...

    async def settle(self, settlement: Settlement) -> Settled:
        """Record the outcome of an attempt."""
        ...

    async def next_batch(self, export_id: int) -> bool:
        """Carry out an operator's order for the next batch of an export's members; True while there are more."""
        ...

    async def flush(self) -> None:
        """Wait for transactions that are under way."""
        ...


class BreakerStore(Protocol):
    """The states of circuit breakers, kept over restarts and shared by replicas."""

    async def load(self, account: str) -> BreakerState:
        """Return the state that was saved last; closed if none was."""
        ...

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        """Store a finding. Returns the state that was stored before, and the one that is stored now."""
        ...

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        """Reserve the probe that is due; None if no probe is due, or another replica has it."""
        ...
