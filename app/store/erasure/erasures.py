"""Who was erased: asked for, looked up, lifted. Only digests are kept of them; see `app.domain.erasure`."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, delete, func, select

from app.domain.erasure import Digests, Erased
from app.domain.errors import Conflict
from app.store.database.engine import Database
from app.store.erasure.erasing import Erasing, members_once_of, users_of
from app.store.schema import erasures

NO_KEY = (
    "ERASURE_KEY is not set, and without it nothing would keep an erased person from coming back. Make one with "
    "python3 -c 'import secrets; print(secrets.token_urlsafe(32))', put it into .env, keep it for as long as people "
    "are to stay erased, and start the service again. Nothing was changed."
)


class Erasures:
    """Erases people and keeps them out.

    Args:
        digests: made with the key of the settings; None where none is set, and nobody can be erased.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], digests: Digests | None) -> None:
        self._database = database
        self._clock = clock
        self._digests = digests

    async def erase(self, address: str, *, leave_lists: bool) -> Erased:
        """Erase the person of an address, and keep them out from now on.

        The person is the address, and the Lytics users known for it: what these hold or held under other addresses
        goes too. Where a call is under way it goes when that has ended, where a list is to be left when that was told
        or given up. A second time is harmless.

        Args:
            leave_lists: take the person off the lists that we keep. Else no list is touched.

        Raises:
            Conflict: no key is set.
        """
        digests = self._with_key()
        # Where else these users are is found by reading all memberships, so it is done while others may write.
        users, elsewhere = await self._database.read(partial(_where_is, address=address))
        now = self._clock()

        def erase(connection: Connection) -> Erased:
            return Erasing(connection, digests, address, now, leave_lists=leave_lists).run(users, elsewhere)

        return await self._database.write(erase)

    async def lift(self, address: str) -> bool:
        """Let a person in again: what comes from now on is taken like a stranger's. False if nobody was kept out.

        Raises:
            Conflict: no key is set.
        """
        digest = self._with_key().of_address(address)
        statement = delete(erasures).where(erasures.c.address_digest == digest).returning(erasures.c.digest)
        return bool(await self._database.write(lambda connection: connection.execute(statement).all()))

    async def erased_at(self, address: str) -> datetime | None:
        """When the person of an address was erased; None for everybody else."""
        if self._digests is None:
            return None
        statement = select(erasures.c.erased_at).where(erasures.c.digest == self._digests.of_address(address))
        return await self._database.read(lambda connection: connection.scalar(statement))

    async def ineffective(self) -> int:
        """How many people are not kept out, since they were erased with another key than the one that is set."""
        return await self._database.read(partial(count_ineffective, digests=self._digests))

    def _with_key(self) -> Digests:
        if self._digests is None:
            raise Conflict(NO_KEY)
        return self._digests


def count_ineffective(connection: Connection, digests: Digests | None) -> int:
    """How many people were erased with another key than this one; with None, how many were erased at all."""
    statement = select(func.count()).select_from(erasures).where(erasures.c.digest == erasures.c.address_digest)
    if digests is not None:
        statement = statement.where(erasures.c.key_id != digests.key_id)
    return connection.scalar(statement) or 0


def _where_is(connection: Connection, address: str) -> tuple[set[str], set[int]]:
    """The Lytics users of an address, and the members that they entered last."""
    users = users_of(connection, address)
    return users, members_once_of(connection, users)
