"""Receives the events of a webhook: stores them before the sender gets its 200."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from app.domain.change import AudienceEvent
from app.domain.rejection import Rejection
from app.domain.resolve import Received

# Lytics' largest batch. More events take several transactions, so that other webhooks get their turn in between.
MAX_EVENTS_PER_TRANSACTION = 1000


class Receipt(NamedTuple):
    """Counts of the events of one webhook, by result."""

    accepted: int
    ignored: int
    rejected: tuple[Rejection, ...]


class Receiver:
    """Stores events, then wakes the parts of the service that have work.

    Args:
        store: stores events in one transaction; returns once they are committed and synced to disk.
        wake: called with each account that has due members.
        on_new_export: called if an export was started, which then needs a name.
    """

    def __init__(
        self,
        store: Callable[[Sequence[AudienceEvent]], Awaitable[Received]],
        *,
        wake: Callable[[str], None],
        on_new_export: Callable[[], None],
    ) -> None:
        self._store = store
        self._wake = wake
        self._on_new_export = on_new_export

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        """Store the events of one webhook. All counted events are on disk when this returns.

        Raises:
            StoreUnavailable: some events were not stored. The sender repeats the webhook; events that were stored
                count as duplicates then.
        """
        accepted, ignored, rejected = 0, 0, list[Rejection]()
        for start in range(0, len(events), MAX_EVENTS_PER_TRANSACTION):
            received = await self._receive(events[start : start + MAX_EVENTS_PER_TRANSACTION])
            accepted += received.accepted
            ignored += received.ignored
            rejected += received.rejected
        return Receipt(accepted, ignored, tuple(rejected))

    async def _receive(self, events: Sequence[AudienceEvent]) -> Received:
        received = await self._store(events)
        if received.has_new_exports:
            self._on_new_export()
        for account in received.changes.due_accounts:
            self._wake(account)
        return received
