"""The port to an e-mail service: one account of it, as delivery and exports use it.

Every call may raise a `CallFailed`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from app.domain.list_check import ListSeen


class Destination(Protocol):
    """The lists of one account and their members."""

    async def update_member(
        self,
        address: str,
        *,
        join: Iterable[str],
        leave: Iterable[str],
        vars: Mapping[str, object],  # noqa: A002 - Sailthru's own word
        is_backfill: bool,
    ) -> None:
        """Add a member to lists, remove it from lists and set its vars, in one call."""
        ...

    async def lists_of(self, address: str, *, is_backfill: bool) -> frozenset[str] | None:
        """Return the names of the member's lists; None if the service has no such profile."""
        ...

    async def find_or_make(self, name: str) -> str | None:
        """Return the id of a list, which is created if it was missing; None if the service tells no id."""
        ...

    async def find(self, name: str) -> ListSeen | None:
        """Return a list; None if there is none of that name."""
        ...

    async def index(self) -> Mapping[str, list[ListSeen]]:
        """Return all lists by name."""
        ...


class ListMaker(Protocol):
    """Creates lists, each one once."""

    async def ensure(self, name: str, *, is_again: bool = False) -> None:
        """Make sure that a list exists.

        Args:
            is_again: the list existed, and the service does not know it any more.
        """
        ...


class Throttle(Protocol):
    """The account's share of the rate limit, counted in calls that write a member."""

    async def prepare(self, calls: int, *, backfill: bool) -> None:
        """Ask the other replicas for so many calls; if `backfill`, for backfill calls and one live call.

        Raises:
            StoreUnavailable: the share is not known.
        """
        ...

    def room(self, *, backfill: bool = False) -> int:
        """Return how many calls may leave now."""
        ...

    def opens_at(self) -> datetime:
        """Return when to ask for room again."""
        ...
