"""The port to one account of an e-mail service, as delivery and exports use it.

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

    async def find_or_create(self, name: str) -> str | None:
        """Return the id of a list, and create the list if it is missing. None if the service reports no id."""
        ...

    async def find(self, name: str) -> ListSeen | None:
        """Return a list; None if no list has this name."""
        ...

    async def index(self) -> Mapping[str, list[ListSeen]]:
        """Return all lists by name."""
        ...


class ListMaker(Protocol):
    """Creates each list once."""

    async def ensure(self, name: str, *, is_missing: bool = False) -> None:
        """Make sure that a list exists.

        Args:
            is_missing: True if the list existed, and the service no longer knows it.
        """
        ...


class Throttle(Protocol):
    """The account's share of the rate limit, counted in calls that write a member."""

    async def prepare(self, calls: int, *, backfill: bool) -> None:
        """Request a share of this many calls; with `backfill`, of backfill calls and one live call.

        Raises:
            StoreUnavailable: the share could not be requested.
        """
        ...

    def room(self, *, backfill: bool = False) -> int:
        """Return how many calls may leave now."""
        ...

    def opens_at(self) -> datetime:
        """Return when to ask for room again."""
        ...
