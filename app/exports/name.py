"""Names new exports and creates their lists in the background.

Each list is created at once, because a flow in Lifecycle Optimizer needs an existing list.
"""

from collections.abc import Mapping

import structlog

from app.domain.destination import ListMaker
from app.domain.destination_rules import DestinationRules
from app.domain.errors import CallFailed, Conflict, NotFound
from app.domain.export import Export, ExportState
from app.exports.needs import Exports, Lytics

log = structlog.get_logger(__name__)

# A paused export needs its list too, because users build the flow before they resume the export.
NEED_LIST = frozenset({ExportState.RUNNING, ExportState.PAUSED})
BY_HAND = 'Name it by hand: PATCH /exports/{id} {{"name": "the audience\'s name"}}.'


class ExportNamer:
    """Names exports after their audiences and creates their lists.

    Args:
        lytics: None without an API token; then an operator must name the exports.
        list_makers: the list makers by account label.
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
        """Process all exports once. Return True if a failed step may succeed later.

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
            why = f"LYTICS_API_TOKEN is not set, so the audience's name can't be read from Lytics. {by_hand}"
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
            # An operator named the export meanwhile. The next round creates its list.
            return export, True
        log.info("export named", export=named.id, list=named.list_name, state=named.state)
        return named, False

    async def _explain(self, export: Export, reason: str) -> None:
        if export.reason != reason:
            log.warning("export waits", export=export.id, audience=export.audience_id, why=reason)
            await self._exports.set_reason(export.id, reason)

    async def make_list(self, export: Export) -> bool:
        """Ensure that the export's list exists, or record the reason. Return False if a retry may succeed.

        Raises:
            StoreUnavailable: the result could not be recorded.
        """
        list_maker = self._list_makers.get(export.account)
        if list_maker is None or export.list_name is None:
            why = f"The authorization {export.account!r} is no longer in the settings. Add it again."
            await self._explain(export, why)
            return True
        try:
            await list_maker.ensure(export.list_name)
        except CallFailed as error:
            await self._explain(export, f"The list could not be created yet. The service retries. {error}")
            return False
        log.info("list ready", export=export.id, list=export.list_name)
        return True
