"""
How accounts stand, kept over restarts. Only their labels are here; keys and secrets are in the settings.
"""

from datetime import timedelta

from sqlalchemy import select

from app.domain.account import Pause, Standing
from app.store.differences import upsert
from app.store.engine import Database
from app.store.schema import MICROSECOND, accounts


class Accounts:
    """
    The standing of each account.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, account: str) -> Standing:
        """
        As it was saved last; running if it never was.
        """
        rows = await self._database.rows(select(accounts).where(accounts.c.account == account))
        if not rows:
            return Standing()
        (row,) = rows
        return Standing(
            pause=None if row.pause is None else Pause(row.pause),
            code=row.code,
            reason=row.reason,
            paused_at=row.paused_at,
            probes=row.probes,
            probe_at=row.probe_at,
            paused_for=timedelta(microseconds=row.paused_for_us),
        )

    async def save(self, account: str, standing: Standing) -> None:
        """
        Keep how an account stands.
        """
        row = {
            "account": account,
            "pause": standing.pause,
            "code": standing.code,
            "reason": standing.reason,
            "paused_at": standing.paused_at,
            "probes": standing.probes,
            "probe_at": standing.probe_at,
            "paused_for_us": standing.paused_for // MICROSECOND,
        }
        await self._database.write(lambda connection: connection.execute(upsert(connection, accounts), [row]))
