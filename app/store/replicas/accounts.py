"""Stores circuit breakers, so that they survive restarts and are shared by replicas. No keys or secrets are stored."""

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from app.domain.account import BreakerState, OpenReason, merged
from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import MICROSECOND, accounts


class Accounts:
    """The state of each account's circuit breaker."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, account: str) -> BreakerState:
        """Return the last saved state; closed if there is none."""
        return await self._database.read(lambda connection: _load(connection, account))

    async def save(
        self, account: str, before: BreakerState, after: BreakerState, now: datetime
    ) -> tuple[BreakerState, BreakerState]:
        """Store the state of a replica, merged with the state that other replicas have stored.

        Returns the previously stored state and the new one.
        """
        return await self._database.write(lambda connection: _save(connection, account, before, after, now))

    async def take_probe(self, account: str, now: datetime, until: datetime) -> BreakerState | None:
        """Reserve the due probe, so that no other replica sends one before `until`.

        Returns the new state; None if no probe is due, or another replica has reserved it.
        """
        return await self._database.write(lambda connection: _take_probe(connection, account, now, until))


def _load(connection: Connection, account: str, *, is_locked: bool = False) -> BreakerState:
    statement = select(accounts).where(accounts.c.account == account)
    row = connection.execute(lock_row(statement) if is_locked else statement).one_or_none()
    if row is None:
        return BreakerState()
    return BreakerState(
        open_reason=None if row.open_reason is None else OpenReason(row.open_reason),
        code=row.code,
        message=row.message,
        opened_at=row.opened_at,
        failed_probes=row.failed_probes,
        probe_at=row.probe_at,
        was_open_for=timedelta(microseconds=row.was_open_for_us),
    )


def _save(
    connection: Connection, account: str, before: BreakerState, after: BreakerState, now: datetime
) -> tuple[BreakerState, BreakerState]:
    connection.execute(insert_or_nothing(connection, accounts), [{"account": account}])
    stored = _load(connection, account, is_locked=True)
    state = merged(stored, before, after, now)
    _store(connection, account, state)
    return stored, state


def _take_probe(connection: Connection, account: str, now: datetime, until: datetime) -> BreakerState | None:
    stored = _load(connection, account, is_locked=True)
    if not stored.is_open or stored.next_probe_at(now) > now:
        return None
    taken = replace(stored, probe_at=until)
    _store(connection, account, taken)
    return taken


def _store(connection: Connection, account: str, state: BreakerState) -> None:
    connection.execute(
        update(accounts)
        .where(accounts.c.account == account)
        .values(
            open_reason=state.open_reason,
            code=state.code,
            message=state.message,
            opened_at=state.opened_at,
            failed_probes=state.failed_probes,
            probe_at=state.probe_at,
            was_open_for_us=state.was_open_for // MICROSECOND,
        )
    )
