"""Members and their memberships: keep the newest change, claim members that are due, settle their attempts.

Every write reads the rows it decides about in the same transaction, decides in memory (`app.domain.ledger`), and writes
back. Locks are taken in one order: exports, existing identities, members, new identities, memberships, counts; each
sorted by key. There is one exception: where an export takes over the pending changes of another one, members are locked
first. If that ends in a deadlock, the database breaks it and the transaction is repeated.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, select

from app.domain.account import Capacity
from app.domain.call import Call, Claim
from app.domain.change import AudienceEvent, MembershipChange
from app.domain.erasure import Digests
from app.domain.export import ExportState
from app.domain.ledger import BatchResult
from app.domain.report import MembershipReport
from app.domain.resolve import Received, Resolver
from app.domain.settlement import Settled, Settlement
from app.store.database.engine import Database
from app.store.database.group_commit import GroupCommit
from app.store.members import batches, claims, due
from app.store.members.rows import membership_of
from app.store.members.settling import settle
from app.store.members.webhooks import Webhook, receive
from app.store.schema import exports, members, memberships

Clock = Callable[[], datetime]

# In one transaction: about a tenth of a second, for which the ones behind it wait.
MOST_CHANGES = 500


class Members:
    """All members; the queue of deliveries is their state.

    Args:
        resolver: resolves the events of webhooks.
        digests: keep out erased addresses and users; None where none can be.
        on_commit: called after each group commit with its kind and the number of requests that shared it.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        resolver: Resolver = Resolver(),  # noqa: B008 - it is immutable
        digests: Digests | None = None,
        on_commit: Callable[[str, int], None] = lambda _kind, _size: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._resolver = resolver
        self._digests = digests
        self._keep: GroupCommit[Webhook, Received] = GroupCommit(
            self._receive_all,
            max_size=MOST_CHANGES,
            size_of=lambda one: len(one.events) + len(one.changes),
            on_commit=lambda size: on_commit("keep", size),
        )
        self._begin: GroupCommit[claims.Begun, bool] = GroupCommit(
            self._begin_all, on_commit=lambda size: on_commit("begin", size)
        )
        self._settle: GroupCommit[Settlement, Settled] = GroupCommit(
            self._settle_all, on_commit=lambda size: on_commit("settle", size)
        )

    async def receive(self, events: Sequence[AudienceEvent]) -> Received:
        """Keep the events of one webhook; return once they are committed and synced to disk.

        Raises:
            StoreUnavailable: nothing was kept, or the database was lost while it committed.
        """
        return await self._keep.submit(Webhook(events=events))

    async def apply(self, changes: Sequence[MembershipChange]) -> BatchResult:
        """Keep membership changes that are resolved already, as `receive` does."""
        received = await self._keep.submit(Webhook(changes=changes))
        return received.changes

    async def claim(self, account: str, *, room: Capacity, lease_for: timedelta) -> list[Claim]:
        """Claim members of an account that are due, live changes first, as many as there is room for.

        The first request of each is recorded when this returns. A member with nothing pending is given back at once.
        """

        def take(connection: Connection) -> list[Claim]:
            now = self._clock()
            # Random for each claim, so that no two claims of a member share a token.
            lease, until = secrets.randbits(62), now + lease_for
            return claims.take(connection, account, room=room, now=now, lease=lease, until=until)

        return await self._database.write(take)

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Record that a request is about to leave, and hold the member until `until`.

        False if the lease was lost: another worker calls for this member, so the request must not leave.
        """
        return await self._begin.submit(claims.Begun(claim, call, until))

    async def settle(self, settlement: Settlement) -> Settled:
        """Record how an attempt ended, and give the member back; nothing is recorded if the lease was lost."""
        return await self._settle.submit(settlement)

    async def flush(self) -> None:
        """Wait until every transaction under way has ended."""
        for group in (self._keep, self._begin, self._settle):
            await group.flush()

    async def next_due_at(self, account: str) -> datetime | None:
        """Return when the next member of an account is due, or its lease ends; None if none is."""
        found = await self._database.read(lambda connection: due.next_due_at(connection, account))
        return min(found.values(), default=None)

    async def next_batch(self, export_id: int, *, size: int = 5000) -> bool:
        """Do the next batch of the orders that concern every member of an export; return whether there is more."""
        return await self._database.write(
            partial(batches.next_batch, export_id=export_id, size=size, now=self._clock(), digests=self._digests)
        )

    async def correct_due_times(self, accounts: Iterable[str], *, longest_wait: timedelta, lease_for: timedelta) -> int:
        """Make members due that wait longer than any member may, since our clock was wrong; return their number.

        They are due after `lease_for`, when every call that is under way has ended.
        """
        now = self._clock()
        correct = partial(due.correct_due_times, accounts=accounts, latest=now + longest_wait, due_at=now + lease_for)
        return await self._database.write(correct)

    async def find_by_address(self, address: str) -> list[MembershipReport]:
        """Return the memberships of an address in all accounts; none for an unknown one."""
        statement: Select[Any] = (
            select(
                memberships,
                members.c.account,
                members.c.due_at,
                members.c.attempts,
                exports.c.list_name,
                exports.c.state,
            )
            .join(members, members.c.id == memberships.c.member_id)
            .join(exports, exports.c.id == memberships.c.export_id)
            .where(members.c.address == address)
            .order_by(members.c.account, memberships.c.export_id)
        )
        return [
            MembershipReport(
                account=row.account,
                export_id=row.export_id,
                list_name=row.list_name,
                export_state=ExportState(row.state),
                membership=membership_of(row, address),
                due_at=row.due_at,
                attempts=row.attempts,
            )
            for row in await self._database.rows(statement)
        ]

    # The clock is read inside the transaction, not before it waits for its turn.

    async def _receive_all(self, webhooks: list[Webhook]) -> list[Received]:
        return await self._database.write(
            lambda connection: receive(connection, webhooks, self._clock(), self._resolver, self._digests)
        )

    async def _begin_all(self, begun: list[claims.Begun]) -> list[bool]:
        return await self._database.write(lambda connection: claims.begin(connection, begun, self._clock()))

    async def _settle_all(self, settlements: list[Settlement]) -> list[Settled]:
        return await self._database.write(lambda connection: settle(connection, settlements, self._clock()))
