"""Receive: keep the events of a webhook before it is answered with 200."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from app.domain.change import AudienceEvent
from app.domain.rejection import Rejection
from app.domain.resolve import Received

# Lytics' largest batch. More events are kept in several transactions, so that other webhooks get their turn between.
MOST_EVENTS_AT_ONCE = 1000


class Receipt(NamedTuple):
    """What became of the events of one webhook."""

    accepted: int
    ignored: int
    rejected: tuple[Rejection, ...]


class Receiver:
    """Keeps events, and tells the parts that have work now.

    Args:
        keep: stores events in one transaction; returns once they are committed and synced to disk.
        wake: called with each account that has due members.
        on_new_export: called if an export was started, so that its name is asked for.
    """

    def __init__(
        self,
        keep: Callable[[Sequence[AudienceEvent]], Awaitable[Received]],
        *,
        wake: Callable[[str], None],
        on_new_export: Callable[[], None],
    ) -> None:
        self._keep = keep
        self._wake = wake
        self._on_new_export = on_new_export

    async def receive(self, events: Sequence[AudienceEvent]) -> Receipt:
        """Keep the events of one webhook; all that the receipt counts is on disk when this returns.

        Raises:
            StoreUnavailable: not all events could be kept. The sender repeats the webhook; what was kept is then a
                duplicate.
        """
        accepted, ignored, rejected = 0, 0, list[Rejection]()
        for start in range(0, len(events), MOST_EVENTS_AT_ONCE):
            received = await self._receive(events[start : start + MOST_EVENTS_AT_ONCE])
            accepted += received.accepted
            ignored += received.ignored
            rejected += received.rejected
        return Receipt(accepted, ignored, tuple(rejected))

    async def _receive(self, events: Sequence[AudienceEvent]) -> Received:
        received = await self._keep(events)
        if received.has_new_exports:
            self._on_new_export()
        for account in received.changes.due_accounts:
            self._wake(account)
        return received
