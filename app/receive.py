"""
Verb 1, receive: keep the changes of a webhook, each once, before the answer 200.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.change import AudienceEvent, Kind, MembershipChange, Rejection
from app.domain.export import Export
from app.domain.merge import Kept, Verdict

NO_ADDRESS = Rejection(
    "no_usable_address",
    "The event has no usable e-mail address. In the Lytics job, tick the field that holds it under Export Fields; "
    "people without an address can't be put on a list.",
)


class Exports(Protocol):
    """
    Which audiences are exported.
    """

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        """
        From memory; empty if nobody exports it.
        """
        ...

    async def start(self, audience_id: str, *, audience_slug: str, account: str) -> Export:
        """
        Make an export, or return the one there is.
        """
        ...

    async def count_unexported(self, audience_id: str, audience_slug: str) -> None:
        """
        Remember that an event was ignored.
        """
        ...


class Members(Protocol):
    """
    Where changes are kept.
    """

    async def keep(self, changes: Sequence[MembershipChange]) -> Kept:
        """
        Returns once they are committed and synced to disk.
        """
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What became of the events of one webhook.
    """

    accepted: int
    ignored: int
    rejected: tuple[Rejection, ...]


class Receiver:
    """
    Turns audience events into membership changes and keeps them.

    Args:
        usable_address: the e-mail address in a profile field, or None.
        auto_export: the account to which an unknown audience is exported by its first event; None to ignore it.
        wake: told which accounts now have somebody to call for.
        on_new_export: told when an export was started, so that its name is asked for.
    """

    def __init__(
        self,
        exports: Exports,
        members: Members,
        *,
        usable_address: Callable[[object], str | None],
        auto_export: str | None,
        wake: Callable[[str], None],
        on_new_export: Callable[[], None],
    ) -> None:
        self._exports = exports
        self._members = members
        self._usable_address = usable_address
        self._auto_export = auto_export
        self._wake = wake
        self._on_new_export = on_new_export
        self._starting: dict[str, asyncio.Task[Export]] = {}

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        """
        Keep the events of one webhook; what is counted as accepted or ignored is on disk when this returns.

        Raises:
            StoreUnavailable: nothing was kept; the sender comes again.
        """
        changes: list[MembershipChange] = []
        changes_of: list[range] = []
        rejected: list[Rejection] = []
        for event in events:
            exports = await self._exports_of(event)
            own = [change for export in exports if (change := self._change(event, export)) is not None]
            if exports and not own:
                rejected.append(NO_ADDRESS)
            changes_of.append(range(len(changes), len(changes) + len(own)))
            changes += own
        kept = await self._members.keep(changes) if changes else Kept((), frozenset())
        for account in kept.due_accounts:
            self._wake(account)
        accepted = sum(any(kept.verdicts[i] is Verdict.ACCEPTED for i in own) for own in changes_of)
        return Receipt(accepted, len(events) - accepted - len(rejected), tuple(rejected))

    async def _exports_of(self, event: AudienceEvent) -> tuple[Export, ...]:
        known = self._exports.of_audience(event.audience_id)
        if known:
            return known
        if self._auto_export is None:
            await self._exports.count_unexported(event.audience_id, event.audience_slug)
            return ()
        return (await self._start(event, self._auto_export),)

    async def _start(self, event: AudienceEvent, account: str) -> Export:
        """
        One export for an audience, however many of its first events come at the same moment.
        """
        task = self._starting.get(event.audience_id)
        if task is None:
            task = asyncio.create_task(
                self._exports.start(event.audience_id, audience_slug=event.audience_slug, account=account)
            )
            self._starting[event.audience_id] = task
            task.add_done_callback(lambda _: self._started(event.audience_id))
        return await asyncio.shield(task)

    def _started(self, audience_id: str) -> None:
        del self._starting[audience_id]
        self._on_new_export()

    def _change(self, event: AudienceEvent, export: Export) -> MembershipChange | None:
        address = self._usable_address(event.profile.get(export.email_field))
        # A user that Lytics names by id is found by that id, so only an enter can't do without an address.
        if address is None and (event.lytics_id is None or event.kind is Kind.ENTER):
            return None
        values: Mapping[str, object] = {} if event.kind is Kind.EXIT else export.vars_of(event.profile)
        return MembershipChange(
            export_id=export.id,
            kind=event.kind,
            address=address,
            lytics_id=event.lytics_id,
            moved_at_ns=event.moved_at_ns,
            message_at_ns=event.message_at_ns,
            vars=values,
            clock_corrected=event.clock_corrected,
        )
