"""What is left of somebody, wherever in the store; and a way to let a worker's calls end as wanted."""

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
    """All rows of all tables, as text, in one order."""

    def lines(connection: Connection) -> list[str]:
        return [
            f"{table.name} {tuple(row)}"
            for table in metadata.sorted_tables
            for row in connection.execute(table.select())
        ]

    return "\n".join(sorted(await database.read(lines)))


async def traces(database: Database, *words: str) -> list[str]:
    """The rows in which one of these words stands."""
    return [line for line in (await everything(database)).splitlines() if any(word in line for word in words)]


async def claims(members: Members, limit: int = 100) -> list[Claim]:
    return await members.claim(ACCOUNT, room=room(limit), lease_for=LEASE)


async def tell(members: Members, *, on_lists: frozenset[str] = frozenset()) -> list[Claim]:
    """Sailthru is told everything that is due now, and says that whoever it is asked for is on these lists."""
    confirmed = await claims(members)
    for one in confirmed:
        call = after_read(one, on_lists) if one.call.is_read else one.call
        await members.settle(settlement(one, Effect.TOLD, call=call))
    return confirmed
