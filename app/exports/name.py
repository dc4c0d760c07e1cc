"""Names new exports and makes their lists, outside the webhook's path.

The list is made at once, because a flow in Lifecycle Optimizer can only be built on a list that exists.
"""

from collections.abc import Mapping

import structlog

from app.domain.destination import ListMaker
from app.domain.destination_rules import DestinationRules
from app.domain.errors import CallFailed, Conflict, NotFound
from app.domain.export import Export, ExportState
from app.exports.needs import Exports, Lytics

log = structlog.get_logger(__name__)

# A paused export needs its list too: the flow is built on it before the export is resumed.
NEED_LIST = frozenset({ExportState.RUNNING, ExportState.PAUSED})
BY_HAND = 'Name it by hand: PATCH /exports/{id} {{"name": "the audience\'s name"}}.'


class ExportNamer:
    """Gives every export its name and its list.

    Args:
        lytics: None without an API token; then an operator gives the names. A name is never guessed.
        list_makers: by account label.
    """

    def __init__(
        self,
        exports: Exports,
        lytics: Lytics | None,
        list_makers: Mapping[str, ListMaker],
        rules: DestinationRules,
    ) -> None:
        self._exports = exports
        self._lytics = lytics
        self._list_makers = list_makers
        self._rules = rules

    async def run(self) -> bool:
        """Process all exports once. Returns True if something failed that may succeed later.

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
        if self._lytics is None:
            why = f"LYTICS_API_TOKEN is not set, so Lytics can't be asked for its name. {by_hand}"
            await self._explain(export, why)
            return export, False
        try:
            audience = await self._lytics.audience(export.audience_id)
        except (CallFailed, NotFound) as error:
            await self._explain(export, f"{error} {by_hand}")
            return export, True
        try:
            named = await self._exports.name(export.id, audience.name, self._rules.list_name(audience.name))
        except Conflict:
            # An operator has named it meanwhile. The next round makes its list.
            return export, True
        log.info("export named", export=named.id, list=named.list_name, state=named.state)
        return named, False

    async def _explain(self, export: Export, reason: str) -> None:
        if export.reason != reason:
            log.warning("export waits", export=export.id, audience=export.audience_id, why=reason)
            await self._exports.set_reason(export.id, reason)

    async def make_list(self, export: Export) -> bool:
        """Make sure that the export's list exists. If not, records the reason and returns False if it may work later.

        Raises:
            StoreUnavailable: the result could not be recorded.
        """
        list_maker = self._list_makers.get(export.account)
        if list_maker is None or export.list_name is None:
            why = f"The authorization {export.account!r} is no longer in the settings. Put it back."
            await self._explain(export, why)
            return True
        try:
            await list_maker.ensure(export.list_name)
        except CallFailed as error:
            await self._explain(export, f"Its list could not be made yet and is tried again. {error}")
            return False
        log.info("list ready", export=export.id, list=export.list_name)
        return True
