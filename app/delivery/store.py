"""The parts of the store that delivery uses: `app.store.members.members` and `app.store.replicas.accounts`.

Every method may raise `StoreUnavailable`.
"""

from datetime import datetime, timedelta
from typing import Protocol

from app.domain.account import BreakerState, Capacity
from app.domain.call import Call, Claim
from app.domain.settlement import Settled, Settlement


class MemberQueue(Protocol):
    """The due members of all accounts, their claims and settlements."""

    async def claim(self, account: str, *, capacity: Capacity, lease_for: timedelta) -> list[Claim]:
        """Claim due members, up to the capacity."""
        ...

    async def next_due_at(self, account: str) -> datetime | None:
        """Return when the next member is due; None if none is pending."""
        ...

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Record a request and renew the lease. Return False if the lease was lost."""
        ...

    async def settle(self, settlement: Settlement) -> Settled:
        """Record the outcome of an attempt."""
        ...

    async def next_batch(self, export_id: int) -> bool:
        """Apply an operator's order to the next batch of an export's members. Return True while members are left."""
        ...

    async def flush(self) -> None:
        """Wait until all running transactions have ended."""
        ...


class BreakerStore(Protocol):
    """The states of circuit breakers. They survive restarts, and replicas share them."""

    async def load(self, account: str) -> BreakerState:
        """Return the newest saved state, or a closed breaker if none was saved."""
        ...

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        """Store the change from `before` to `after`. Return the previously stored state and the new one."""
        ...

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        """Reserve the probe that is due. Return None if no probe is due or another replica has reserved it."""
        ...
