"""Dead letters: memberships that were given up. They stay until a newer change or a redrive."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select, tuple_, update

from app.domain.counts import Tally
from app.domain.export import ExportState
from app.store.database.dialect import lock_table
from app.store.database.engine import Database
from app.store.history.journal import Line, write_lines
from app.store.members.rows import parts, save_tallies
from app.store.schema import LIVE, exports, members, memberships


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects the dead letters that match all given values; all dead letters if none is given.

    Args:
        address: in its stored form: trimmed and in lower case.
    """

    export_id: int | None = None
    code: str | None = None
    address: str | None = field(default=None, repr=False)

    def where(self) -> ColumnElement[bool]:
        """Return the condition on memberships."""
        conditions: list[ColumnElement[bool]] = [memberships.c.dead_code.is_not(None)]
        if self.export_id is not None:
            conditions.append(memberships.c.export_id == self.export_id)
        if self.code is not None:
            conditions.append(memberships.c.dead_code == self.code)
        if self.address is not None:
            of_address = select(members.c.id).where(members.c.address == self.address)
            conditions.append(memberships.c.member_id.in_(of_address))
        return and_(*conditions)


class Place(NamedTuple):
    """The position of a dead letter, which marks the end of a page."""

    export_id: int
    member_id: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One membership that was given up.

    Args:
        desired: True if a redrive adds the address to the list; False if it removes it.
        code: Sailthru's error number, or a word of ours.
    """

    place: Place
    account: str
    list_name: str | None
    address: str = field(repr=False)
    desired: bool
    code: str
    dead_at: datetime | None


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many dead letters are pending again, and the accounts that now have due members."""

    count: int
    due_accounts: frozenset[str]


class DeadLetters:
    """All dead letters."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def page(self, selection: Filter, *, after: Place | None = None, size: int = 100) -> list[DeadLetter]:
        """Return the next dead letters, ordered by export and member; fewer than `size` at the end."""
        where = selection.where()
        if after is not None:
            where = and_(where, tuple_(memberships.c.export_id, memberships.c.member_id) > tuple_(*after))
        statement = (
            select(
                memberships.c.export_id,
                memberships.c.member_id,
                memberships.c.desired,
                memberships.c.dead_code,
                memberships.c.dead_at,
                members.c.account,
                members.c.address,
                exports.c.list_name,
            )
            .join(members, members.c.id == memberships.c.member_id)
            .join(exports, exports.c.id == memberships.c.export_id)
            .where(where)
            .order_by(memberships.c.export_id, memberships.c.member_id)
            .limit(size)
        )
        return [
            DeadLetter(
                place=Place(row.export_id, row.member_id),
                account=row.account,
                list_name=row.list_name,
                address=row.address,
                desired=row.desired,
                code=row.dead_code,
                dead_at=row.dead_at,
            )
            for row in await self._database.rows(statement)
        ]

    async def count(self, selection: Filter) -> int:
        """Return how many dead letters a redrive would put back now. Dead letters of stopped exports stay."""
        statement = (
            select(func.count())
            .select_from(memberships)
            .join(exports, exports.c.id == memberships.c.export_id)
            .where(selection.where(), exports.c.state != ExportState.STOPPED)
        )
        return await self._database.read(lambda connection: connection.scalar(statement)) or 0

    async def redrive(self, selection: Filter) -> Redriven:
        """Put dead letters back with the newest desired state: either all of them or none.

        A member that is claimed or waits for a retry keeps its due time. Its next call includes the redriven changes.
        """
        now = self._clock()
        return await self._database.write(lambda connection: _Redrive(connection, selection, now).run())


class _Redrive:
    """One transaction. It locks in the order of all writers: exports, members, memberships."""

    def __init__(self, connection: Connection, selection: Filter, now: datetime) -> None:
        self._connection = connection
        self._selection = selection
        self._now = now
        self._redriven: Counter[int] = Counter()
        self._due_accounts: set[str] = set()

    def run(self) -> Redriven:
        states = self._lock_exports()
        where = and_(self._selection.where(), memberships.c.export_id.in_(sorted(states)))
        found = self._connection.execute(select(memberships.c.member_id).where(where).distinct())
        for part in parts(sorted(found.scalars())):
            self._redrive(part, where, states)
        tallies = {export_id: Tally(pending=n, dead=-n) for export_id, n in self._redriven.items()}
        save_tallies(self._connection, tallies, self._now)
        return Redriven(self._redriven.total(), frozenset(self._due_accounts))

    def _lock_exports(self) -> dict[int, str]:
        # The lock keeps exports from starting to run meanwhile. Otherwise a member could stay without a due time.
        lock_table(self._connection, exports, is_exclusive=False)
        statement = select(exports.c.id, exports.c.state).where(exports.c.state != ExportState.STOPPED)
        if self._selection.export_id is not None:
            statement = statement.where(exports.c.id == self._selection.export_id)
        return {row.id: row.state for row in self._connection.execute(statement)}

    def _redrive(self, member_ids: list[int], where: ColumnElement[bool], states: Mapping[int, str]) -> None:
        locked = self._connection.execute(
            select(members.c.id, members.c.account)
            .where(members.c.id.in_(member_ids))
            .order_by(members.c.id)
            .with_for_update()
        )
        accounts = {row.id: row.account for row in locked}
        # Read again under the locks: a newer change may have superseded a dead letter meanwhile.
        dead = and_(memberships.c.member_id.in_(member_ids), where)
        found = self._connection.execute(
            select(memberships.c.member_id, memberships.c.export_id, memberships.c.dead_code)
            .where(dead)
            .order_by(memberships.c.member_id, memberships.c.export_id)
        )
        rows = found.all()
        self._connection.execute(
            update(memberships)
            .where(dead)
            .values(dead_code=None, dead_at=None, confirmed_revision=memberships.c.revision - 1, first_failed_at=None)
        )
        self._redriven.update(row.export_id for row in rows)
        due = {row.member_id for row in rows if states[row.export_id] == ExportState.RUNNING}
        self._due_accounts.update(accounts[member_id] for member_id in due)
        self._make_due(sorted({row.member_id for row in rows}), sorted(due))
        write_lines(
            self._connection,
            [Line(self._now, row.member_id, row.export_id, "redriven", {"code": row.dead_code}) for row in rows],
        )

    def _make_due(self, redriven: list[int], due: list[int]) -> None:
        self._connection.execute(
            update(members).where(members.c.id.in_(redriven), members.c.lease.is_(None)).values(attempts=0)
        )
        self._connection.execute(
            update(members)
            .where(members.c.id.in_(due), members.c.due_at.is_(None))
            .values(due_at=self._now, priority=LIVE)
        )
