"""How accounts stand, kept over restarts. Only their labels are here; keys and secrets are in the settings."""

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.domain.account import BreakerState, OpenReason, reconciled
from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import MICROSECOND, accounts


class Accounts:
    """The standing of each account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, account: str) -> BreakerState:
        """As it was saved last; running if it never was."""
        return await self._database.read(lambda connection: _load(connection, account))

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        """Keep what was found of an account; returns how it stood in fact, which another replica may have changed,
        and how it stands now.
        """
        return await self._database.write(lambda connection: _save(connection, account, before, after, now))

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        """Take the probe of a paused account that is due, so that nobody else makes one until then: how it stands, or
        None if another replica has it.
        """
        return await self._database.write(lambda connection: _take_probe(connection, account, now, until))


def _load(connection: Connection, account: str, *, is_locked: bool = False) -> BreakerState:
    statement = select(accounts).where(accounts.c.account == account)
    row = connection.execute(lock_row(statement) if is_locked else statement).one_or_none()
    if row is None:
        return BreakerState()
    return BreakerState(
        pause=None if row.pause is None else OpenReason(row.pause),
        code=row.code,
        reason=row.reason,
        paused_at=row.paused_at,
        probes=row.probes,
        probe_at=row.probe_at,
        paused_for=timedelta(microseconds=row.paused_for_us),
    )


def _save(
    connection: Connection, account: str, before: BreakerState, after: BreakerState, now: datetime
) -> tuple[BreakerState, BreakerState]:
    connection.execute(insert_or_nothing(connection, accounts), [{"account": account}])
    stored = _load(connection, account, is_locked=True)
    standing = reconciled(stored, before, after, now)
    _store(connection, account, standing)
    return stored, standing


def _take_probe(connection: Connection, account: str, now: datetime, until: datetime) -> BreakerState | None:
    stored = _load(connection, account, is_locked=True)
    if stored.pause is None or stored.probes_at(now) > now:
        return None
    taken = replace(stored, probe_at=until)
    _store(connection, account, taken)
    return taken


def _store(connection: Connection, account: str, standing: BreakerState) -> None:
    connection.execute(
        update(accounts)
        .where(accounts.c.account == account)
        .values(
            pause=standing.pause,
            code=standing.code,
            reason=standing.reason,
            paused_at=standing.paused_at,
            probes=standing.probes,
            probe_at=standing.probe_at,
            paused_for_us=standing.paused_for // MICROSECOND,
        )
    )
