"""Helpers that search the whole store for traces of an address, and settle due members."""

from sqlalchemy import Connection

from app.domain.call import Claim
from app.domain.erasure import Digests
from app.store.database.engine import Database
from app.store.members.members import Members
from app.store.schema import metadata
from tests.factories import ACCOUNT, SECOND, Effect, after_read, room, settlement

DIGESTS = Digests("key-of-the-erasure-tests")
LEASE = 32 * SECOND


async def everything(database: Database) -> str:
    """Return all rows of all tables as sorted text."""

    def lines(connection: Connection) -> list[str]:
        return [
            f"{table.name} {tuple(row)}"
            for table in metadata.sorted_tables
            for row in connection.execute(table.select())
        ]

    return "\n".join(sorted(await database.read(lines)))


async def traces(database: Database, *words: str) -> list[str]:
    """Return the rows that contain one of these words."""
    return [line for line in (await everything(database)).splitlines() if any(word in line for word in words)]


async def claims(members: Members, limit: int = 100) -> list[Claim]:
    return await members.claim(ACCOUNT, capacity=room(limit), lease_for=LEASE)


async def confirm_due(members: Members, *, on_lists: frozenset[str] = frozenset()) -> list[Claim]:
    """Settle all due members as confirmed. A read finds the member on `on_lists`."""
    confirmed = await claims(members)
    for claim in confirmed:
        call = after_read(claim, on_lists) if claim.call.is_read else claim.call
        await members.settle(settlement(claim, Effect.CONFIRMED, call=call))
    return confirmed
