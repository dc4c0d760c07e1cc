"""Verb 1, receive: keep the changes of a webhook, each once, before the answer 200."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from app.domain.change import AudienceEvent, Kind, MembershipChange
from app.domain.export import Export
from app.domain.ledger import Kept, Verdict
from app.domain.rejection import Reason, Rejection

# Lytics' largest batch. Who sends more has it kept in several transactions, so that others get their turn between.
MOST_EVENTS_AT_ONCE = 1000


class Exports(Protocol):
    """Which audiences are exported."""

    @property
    def version(self) -> int:
        """Of what is in memory."""
        ...

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        """From memory; empty if nobody exports it."""
        ...

    async def is_current(self, version: int) -> bool:
        """Whether what was in memory then is what is stored."""
        ...

    async def refresh(self) -> None:
        """Read what is stored."""
        ...

    async def start(self, audience_id: str, *, audience_slug: str, account: str) -> Export:
        """Make an export, or return the one there is."""
        ...

    async def count_unexported(self, audience_id: str, audience_slug: str, version: int) -> bool:
        """Remember that an event was ignored; false if what was in memory then is not what is stored."""
        ...


class Members(Protocol):
    """Where changes are kept."""

    async def keep_current(self, changes: Sequence[MembershipChange], version: int) -> Kept | None:
        """Returns once they are committed and synced to disk; None if they were made for exports of an older
        version.
        """
        ...


class Receipt(NamedTuple):
    """What became of the events of one webhook."""

    accepted: int
    ignored: int
    rejected: tuple[Rejection, ...]


class Receiver:
    """Turns audience events into membership changes and keeps them.

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
        """Keep the events of one webhook; what is counted as accepted or ignored is on disk when this returns.

        Raises:
            StoreUnavailable: not all could be kept; the sender comes again, and what was kept is duplicates then.
        """
        if len(events) <= MOST_EVENTS_AT_ONCE:
            return await self._receive(events)
        return _sum(
            [
                await self._receive(events[start : start + MOST_EVENTS_AT_ONCE])
                for start in range(0, len(events), MOST_EVENTS_AT_ONCE)
            ]
        )

    async def _receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        receipt, again = await self._try(events)
        while again:
            # Another replica has changed an export: what it ordered counts from now on, for us too.
            await self._exports.refresh()
            more, again = await self._try(again)
            receipt = _sum([receipt, more])
        return receipt

    async def _try(self, events: Sequence[AudienceEvent]) -> tuple[Receipt, Sequence[AudienceEvent]]:
        """What became of them, and those that were looked at with exports in mind that were changed since."""
        changes: list[MembershipChange] = []
        # Which event each change is of.
        events_of: list[int] = []
        rejected: list[Rejection] = []
        unexported: list[AudienceEvent] = []
        await self._start_missing(events)
        # All of one version: nothing is waited for until each event was looked at.
        version = self._exports.version
        for number, event in enumerate(events):
            exports = self._exports.of_audience(event.audience_id)
            own = [change for export in exports if (change := self._change(event, export)) is not None]
            if not exports:
                unexported.append(event)
            elif not own:
                rejected.append(_no_address(event, exports[0].email_field))
            changes += own
            events_of += [number] * len(own)
        if rejected and not await self._exports.is_current(version):
            return Receipt(0, 0, ()), events
        kept = await self._members.keep_current(changes, version) if changes else Kept((), frozenset())
        if kept is None:
            return Receipt(0, 0, ()), events
        for account in kept.due_accounts:
            self._wake(account)
        verdicts = zip(events_of, kept.verdicts, strict=True)
        accepted = len({number for number, verdict in verdicts if verdict is Verdict.ACCEPTED})
        again = await self._count(unexported, version)
        ignored = len(events) - accepted - len(rejected) - len(again)
        return Receipt(accepted, ignored, tuple(rejected)), again

    async def _count(self, unexported: Sequence[AudienceEvent], version: int) -> list[AudienceEvent]:
        """Count what nobody exports; returns those events for which that may not be true any more."""
        if not unexported:
            return []
        # All at once, so that they share a transaction.
        counts = (self._exports.count_unexported(e.audience_id, e.audience_slug, version) for e in unexported)
        return [e for e, is_counted in zip(unexported, await asyncio.gather(*counts), strict=True) if not is_counted]

    async def _start_missing(self, events: Sequence[AudienceEvent]) -> None:
        if self._auto_export is None:
            return
        for event in events:
            if not self._exports.of_audience(event.audience_id):
                await self._start(event, self._auto_export)

    async def _start(self, event: AudienceEvent, account: str) -> None:
        """One export for an audience, however many of its first events come at the same moment."""
        task = self._starting.get(event.audience_id)
        if task is None:
            task = asyncio.create_task(
                self._exports.start(event.audience_id, audience_slug=event.audience_slug, account=account)
            )
            self._starting[event.audience_id] = task
            task.add_done_callback(lambda _: self._started(event.audience_id))
        await asyncio.shield(task)

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
            moved_on_arrival=event.moved_on_arrival,
            message_on_arrival=event.message_on_arrival,
            clock_corrected=event.clock_corrected,
        )


def _no_address(event: AudienceEvent, email_field: str) -> Rejection:
    place = "" if event.item is None else f"[{event.item}]."
    return Rejection(Reason.NO_USABLE_ADDRESS, f"{place}data.{email_field} holds no usable e-mail address.", event.item)


def _sum(receipts: Sequence[Receipt]) -> Receipt:
    return Receipt(
        sum(one.accepted for one in receipts),
        sum(one.ignored for one in receipts),
        tuple(rejection for one in receipts for rejection in one.rejected),
    )
