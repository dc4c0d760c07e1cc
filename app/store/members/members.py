"""Members and their memberships: apply changes, claim due members, settle their attempts.

Every write reads its rows, decides in memory (`app.domain.ledger`) and writes back, all in one transaction. Locks are
taken in one order: exports, existing identities, members, new identities, memberships, counts; each sorted by key.
There is one exception: when an export takes over the pending changes of another one, members are locked first. If this
ends in a deadlock, the database breaks it and the transaction is repeated.
"""

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
from app.store.lease import new_token
from app.store.members import batches, claims, due
from app.store.members.rows import membership_of
from app.store.members.settling import settle
from app.store.members.webhooks import Webhook, receive
from app.store.schema import exports, members, memberships

Clock = Callable[[], datetime]

# Maximum number of changes in one transaction. It takes about 0.1 s, during which other webhooks wait.
MOST_CHANGES = 500


class Members:
    """All members. Their due times are the delivery queue.

    Args:
        resolver: resolves the events of webhooks.
        digests: recognize erased addresses and users; None if no erasure key is set.
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
        self._receive: GroupCommit[Webhook, Received] = GroupCommit(
            self._receive_all,
            max_size=MOST_CHANGES,
            size_of=lambda item: len(item.events) + len(item.changes),
            on_commit=lambda size: on_commit("keep", size),
        )
        self._begin: GroupCommit[claims.OutgoingRequest, bool] = GroupCommit(
            self._begin_all, on_commit=lambda size: on_commit("begin", size)
        )
        self._settle: GroupCommit[Settlement, Settled] = GroupCommit(
            self._settle_all, on_commit=lambda size: on_commit("settle", size)
        )

    async def receive(self, events: Sequence[AudienceEvent]) -> Received:
        """Store the events of one webhook; return once they are committed and synced to disk.

        Raises:
            StoreUnavailable: nothing was stored, or the connection was lost during the commit.
        """
        return await self._receive.submit(Webhook(events=events))

    async def apply(self, changes: Sequence[MembershipChange]) -> BatchResult:
        """Apply membership changes that are already resolved, like `receive`."""
        received = await self._receive.submit(Webhook(changes=changes))
        return received.changes

    async def claim(self, account: str, *, capacity: Capacity, lease_for: timedelta) -> list[Claim]:
        """Claim due members of an account, live changes first, up to the capacity.

        The first request of each claim is recorded. A member with nothing pending is released at once.
        """

        def take(connection: Connection) -> list[Claim]:
            now = self._clock()
            # Random for each claim, so that no two claims of a member share a token.
            lease, until = new_token(), now + lease_for
            return claims.take(connection, account, capacity=capacity, now=now, lease=lease, until=until)

        return await self._database.write(take)

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Record that a request is about to leave, and extend the lease to `until`.

        Returns False if the lease was lost. Another worker may call for this member, so the request must not leave.
        """
        return await self._begin.submit(claims.OutgoingRequest(claim, call, until))

    async def settle(self, settlement: Settlement) -> Settled:
        """Record the end of an attempt and release the member. Nothing is recorded if the lease was lost."""
        return await self._settle.submit(settlement)

    async def flush(self) -> None:
        """Wait until all submitted work is committed or has failed."""
        for group in (self._receive, self._begin, self._settle):
            await group.flush()

    async def next_due_at(self, account: str) -> datetime | None:
        """Return the earliest due time or end of a lease of an account; None if there is none."""
        found = await self._database.read(lambda connection: due.next_due_at(connection, account))
        return min(found.values(), default=None)

    async def next_batch(self, export_id: int, *, size: int = 5000) -> bool:
        """Do the next batch of the unfinished orders of an export; return whether there is more to do now."""
        return await self._database.write(
            partial(batches.next_batch, export_id=export_id, size=size, now=self._clock(), digests=self._digests)
        )

    async def correct_due_times(self, accounts: Iterable[str], *, longest_wait: timedelta, lease_for: timedelta) -> int:
        """Correct due times that are impossibly late, because our clock was wrong; return their number.

        The members become due after `lease_for`, when every call in flight has ended.
        """
        now = self._clock()
        correct = partial(due.correct_due_times, accounts=accounts, latest=now + longest_wait, due_at=now + lease_for)
        return await self._database.write(correct)

    async def find_by_address(self, address: str) -> list[MembershipReport]:
        """Return the memberships of an address in all accounts; empty for an unknown address."""
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

    # The clock is read inside the transaction, because a transaction may wait before it begins.

    async def _receive_all(self, webhooks: list[Webhook]) -> list[Received]:
        return await self._database.write(
            lambda connection: receive(connection, webhooks, self._clock(), self._resolver, self._digests)
        )

    async def _begin_all(self, requests: list[claims.OutgoingRequest]) -> list[bool]:
        return await self._database.write(lambda connection: claims.begin(connection, requests, self._clock()))

    async def _settle_all(self, settlements: list[Settlement]) -> list[Settled]:
        return await self._database.write(lambda connection: settle(connection, settlements, self._clock()))
