"""Members and their memberships: keep the newest, claim who is due, settle how it ended.

Every write reads the rows it decides about in the same transaction, decides in memory (`app.domain.merge`), and writes
back. Locks are taken in one order: identities that are there, members, identities that are new, memberships, each
sorted by key. Only where an export takes over what another one has pending are its members locked first; should
somebody then wait in a circle, the database ends that, and they come again.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, select

from app.domain.account import Capacity
from app.domain.call import Call, Claim
from app.domain.change import MembershipChange
from app.domain.erasure import Digests
from app.domain.export import ExportState
from app.domain.ledger import Kept
from app.domain.report import MembershipReport
from app.domain.settlement import Settled, Settlement
from app.store.database.engine import Database
from app.store.database.group_commit import GroupCommit
from app.store.members import batches as slices
from app.store.members import claims as queue
from app.store.members import due
from app.store.members.changes import Webhook, keep_current
from app.store.members.rows import membership_of
from app.store.schema import exports, members, memberships

Clock = Callable[[], datetime]

# In one transaction: about a tenth of a second, for which those behind it wait.
MOST_CHANGES = 500


def _people_of(webhook: Webhook) -> set[tuple[int, str, bool]]:
    # A time that is only that of the arrival, and a `change` of somebody unknown, need what came before to be there.
    users = {(c.export_id, c.lytics_id, True) for c in webhook.changes if c.lytics_id is not None}
    return users | {(c.export_id, c.address, False) for c in webhook.changes if c.address is not None}


class Members:
    """The state of all members; the queue is that state.

    Args:
        digests: who is kept out, once erased; None where nobody can be.
        on_commit: told which group commit was made, and how many requests shared it.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        digests: Digests | None = None,
        on_commit: Callable[[str, int], None] = lambda _what, _size: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._digests = digests
        self._keep: GroupCommit[Webhook, Kept | None] = GroupCommit(
            self._keep_all,
            most=MOST_CHANGES,
            size_of=lambda one: len(one.changes),
            on_commit=lambda size: on_commit("keep", size),
            at_once=database.at_once,
            keys_of=_people_of if database.at_once > 1 else lambda _: (),
        )
        self._begin: GroupCommit[queue.Begun, bool] = GroupCommit(
            self._begin_all, on_commit=lambda size: on_commit("begin", size), at_once=database.at_once
        )
        self._settle: GroupCommit[Settlement, Settled] = GroupCommit(
            self._settle_all, on_commit=lambda size: on_commit("settle", size), at_once=database.at_once
        )

    async def keep(self, changes: Sequence[MembershipChange]) -> Kept:
        """Store changes; returns once they are committed and synced.

        Raises:
            StoreUnavailable: nothing of them was kept, or the database was lost while it committed them.
        """
        kept = await self._keep.submit(Webhook(changes))
        if kept is None:
            raise RuntimeError("Changes of no version can't be outdated.")
        return kept

    async def keep_current(self, changes: Sequence[MembershipChange], version: int) -> Kept | None:
        """The same for changes that were made for the exports of a version; None if one was changed since, and nothing
        was kept.
        """
        return await self._keep.submit(Webhook(changes, version))

    async def claim(self, account: str, *, room: Capacity, lease_for: timedelta) -> list[Claim]:
        """Take members of an account that are due, live changes first, as many as there is room for; each is ours until
        the lease ends.

        The first request of each is on record when this returns. A member with nothing to tell is given back at once.
        """

        def take(connection: Connection) -> list[Claim]:
            now = self._clock()
            lease, until = secrets.randbits(62), now + lease_for
            return queue.take(connection, account, room=room, now=now, lease=lease, until=until)

        return await self._database.write(take)

    async def begin(self, claim: Claim, call: Call, *, until: datetime) -> bool:
        """Put on record that a request is about to leave, and hold the member until `until`.

        False if the lease was lost meanwhile: somebody else calls for this member, so the request must not leave.
        """
        return await self._begin.submit(queue.Begun(claim, call, until))

    async def settle(self, settlement: Settlement) -> Settled:
        """Record how an attempt ended, and give the member back; nothing is recorded if the lease was lost."""
        return await self._settle.submit(settlement)

    async def flush(self) -> None:
        """Wait until every transaction under way has ended."""
        for group in (self._keep, self._begin, self._settle):
            await group.flush()

    async def next_due_at(self, account: str) -> datetime | None:
        """When the next member of an account is due, or its lease ends; None if nobody waits."""
        found = await self._database.read(lambda connection: due.next_due_at(connection, account))
        return min(found.values(), default=None)

    async def next_slice(self, export_id: int, *, size: int = 5000) -> bool:
        """Do the next slice of what is left to be done for each member of an export: make due who waits since before it
        ran, doubt who is on a list that is another one, cancel what is pending since it was stopped. True while there
        is more that can be done now.
        """
        return await self._database.write(
            partial(slices.next_slice, export_id=export_id, size=size, now=self._clock(), digests=self._digests)
        )

    async def bring_back(self, accounts: Iterable[str], *, longest_wait: timedelta, lease_for: timedelta) -> int:
        """Make due again whoever is due later than anybody should be, since our clock was wrong when that was set; not
        before a call that is under way is over. Returns how many there were.
        """
        now = self._clock()
        bring_back = partial(due.bring_back, accounts=accounts, latest=now + longest_wait, due_at=now + lease_for)
        return await self._database.write(bring_back)

    async def of_address(self, address: str) -> list[MembershipReport]:
        """The memberships of a person in all accounts; empty for a stranger."""
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

    # The time is looked at in the transaction, not while it waits for its turn.

    async def _keep_all(self, webhooks: list[Webhook]) -> list[Kept | None]:
        return await self._database.write(lambda c: keep_current(c, webhooks, self._clock(), self._digests))

    async def _begin_all(self, begun: list[queue.Begun]) -> list[bool]:
        return await self._database.write(lambda c: queue.begin(c, begun, self._clock()))

    async def _settle_all(self, settlements: list[Settlement]) -> list[Settled]:
        return await self._database.write(lambda c: queue.settle(c, settlements, self._clock()))
