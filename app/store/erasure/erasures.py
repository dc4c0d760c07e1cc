"""Erases addresses, finds erasures and lifts them. Only digests are stored; see `app.domain.erasure`."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, delete, func, select

from app.domain.erasure import Digests, Erased
from app.domain.errors import Conflict
from app.store.database.engine import Database
from app.store.erasure.erasing import Erasing, last_members_of, users_of
from app.store.schema import erasures

NO_KEY = (
    "ERASURE_KEY is not set. Without it nothing would keep an erased address out. Make one with "
    "python3 -c 'import secrets; print(secrets.token_urlsafe(32))', put it into .env, keep it for as long as people "
    "are to stay erased, and start the service again. Nothing was changed."
)


class Erasures:
    """Erases addresses, and lifts erasures.

    Args:
        digests: made with the key of the settings; None if no key is set. Nothing can be erased then.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], digests: Digests | None) -> None:
        self._database = database
        self._clock = clock
        self._digests = digests

    async def erase(self, address: str, *, leave_lists: bool) -> Erased:
        """Erase an address and ignore it from now on. Erasing it again is harmless.

        The Lytics users of the address are erased too, with their memberships under other addresses. A membership with
        a call in flight is deleted after the call. A membership that must leave its list is deleted after the leave is
        confirmed or given up.

        Args:
            leave_lists: remove the member from the lists of its exports. If False, no list is changed.

        Raises:
            Conflict: no key is set.
        """
        digests = self._with_key()
        # This reads all memberships, so it runs outside the writing transaction.
        users, known_members = await self._database.read(partial(_users_and_members, address=address))
        now = self._clock()

        def erase(connection: Connection) -> Erased:
            return Erasing(connection, digests, address, now, leave_lists=leave_lists).run(users, known_members)

        return await self._database.write(erase)

    async def lift(self, address: str) -> bool:
        """Accept an address again, like an unknown one. Return False if it was not erased.

        Raises:
            Conflict: no key is set.
        """
        digest = self._with_key().of_address(address)
        statement = delete(erasures).where(erasures.c.address_digest == digest).returning(erasures.c.digest)
        return bool(await self._database.write(lambda connection: connection.execute(statement).all()))

    async def erased_at(self, address: str) -> datetime | None:
        """Return when an address was erased; None if it was not."""
        if self._digests is None:
            return None
        statement = select(erasures.c.erased_at).where(erasures.c.digest == self._digests.of_address(address))
        return await self._database.read(lambda connection: connection.scalar(statement))

    async def ineffective(self) -> int:
        """Return how many erased addresses are not recognized, because they were erased with another key."""
        return await self._database.read(partial(count_ineffective, digests=self._digests))

    def _with_key(self) -> Digests:
        if self._digests is None:
            raise Conflict(NO_KEY)
        return self._digests


def count_ineffective(connection: Connection, digests: Digests | None) -> int:
    """Return how many addresses were erased with another key; with None, the number of all erased addresses."""
    statement = select(func.count()).select_from(erasures).where(erasures.c.digest == erasures.c.address_digest)
    if digests is not None:
        statement = statement.where(erasures.c.key_id != digests.key_id)
    return connection.scalar(statement) or 0


def _users_and_members(connection: Connection, address: str) -> tuple[set[str], set[int]]:
    """Return the Lytics users of an address and the members that they entered last."""
    users = users_of(connection, address)
    return users, last_members_of(connection, users)
