"""Gives each new export its name and its list, off the webhook's path: ask Lytics, take the name, make the list at
once.

At once, since a flow in Lifecycle Optimizer can only be built on a list that exists.
"""

from collections.abc import Mapping
from typing import Protocol

import structlog

from app.domain.audience import Audience
from app.domain.errors import CallFailed, Conflict, NotFound
from app.domain.export import Export, ExportState

log = structlog.get_logger(__name__)

# A flow is built on the list of a paused export before it is resumed.
NEED_LIST = frozenset({ExportState.RUNNING, ExportState.PAUSED})
BY_HAND = 'Name it by hand: PATCH /exports/{id} {{"name": "the audience\'s name"}}.'


class Audiences(Protocol):
    """Lytics, as far as names go."""

    async def audience(self, id_or_slug: str) -> Audience:
        """One audience."""
        ...


class ListMaker(Protocol):
    """Who makes the lists of one Sailthru account."""

    async def ensure(self, name: str) -> None:
        """Make sure that a list exists, and that all know it."""
        ...


class Exports(Protocol):
    """Where exports are kept."""

    async def all(self) -> list[Export]:
        """Every export."""
        ...

    async def name(self, export_id: int, audience_name: str) -> Export:
        """Give a name; the state becomes `running` or `name_taken`."""
        ...

    async def explain(self, export_id: int, reason: str) -> None:
        """Say why there is still no name, or no list."""
        ...


class ExportNamer:
    """Brings every export as far as it can be brought.

    Args:
        audiences: Lytics; None without an API token, and then a person gives the names. A name is never guessed.
        list_makers: of the Sailthru accounts by label.
    """

    def __init__(self, exports: Exports, audiences: Audiences | None, list_makers: Mapping[str, ListMaker]) -> None:
        self._exports = exports
        self._audiences = audiences
        self._list_makers = list_makers

    async def run(self) -> bool:
        """Look after all exports once. True if something failed that may work later.

        Raises:
            StoreUnavailable: the exports could not be read or written.
        """
        is_unfinished = False
        for export in await self._exports.all():
            named = export
            if export.state is ExportState.NEEDS_NAME:
                named, failed = await self._name(export)
                is_unfinished |= failed
            if named.state in NEED_LIST and named.list_ready_at is None:
                is_unfinished |= not await self.make_list(named)
        return is_unfinished

    async def _name(self, export: Export) -> tuple[Export, bool]:
        by_hand = BY_HAND.format(id=export.id)
        if self._audiences is None:
            await self._explain(export, f"No LYTICS_API_TOKEN is set, so its name can't be asked. {by_hand}")
            return export, False
        try:
            audience = await self._audiences.audience(export.audience_id)
        except (CallFailed, NotFound) as error:
            await self._explain(export, f"{error} {by_hand}")
            return export, True
        try:
            named = await self._exports.name(export.id, audience.name)
        except Conflict:
            # An operator was faster; the next round sees the export with its name.
            return export, True
        log.info("export named", export=named.id, list=named.list_name, state=named.state)
        return named, False

    async def _explain(self, export: Export, reason: str) -> None:
        if export.reason != reason:
            log.warning("export waits", export=export.id, audience=export.audience_id, why=reason)
            await self._exports.explain(export.id, reason)

    async def make_list(self, export: Export) -> bool:
        """Make sure that an export's list exists. False if it does not yet; the export then says why.

        Raises:
            StoreUnavailable: it could not be recorded.
        """
        list_maker = self._list_makers.get(export.account)
        if list_maker is None or export.list_name is None:
            why = f"The authorization {export.account!r} is not in the settings any more: put it back."
            await self._explain(export, why)
            return True
        try:
            await list_maker.ensure(export.list_name)
        except CallFailed as error:
            await self._explain(export, f"Its list is not there yet, and is tried again. {error}")
            return False
        log.info("list ready", export=export.id, list=export.list_name)
        return True
