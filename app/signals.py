"""Publish and subscribe within one process, so that publishers need not know the subscribers.

Notifications (LISTEN/NOTIFY) connect processes. A process without workers forwards its topics to the database. The
other processes publish each notified topic to their own subscribers. `main` connects both parts.
"""

from collections import defaultdict
from collections.abc import Callable

EXPORTS_CHANGED = "exports"
BACKFILL_QUEUED = "backfill"


def members_due(account: str) -> str:
    """Return the topic for due members of one account."""
    return f"due:{account}"


class Signals:
    """Topics and their subscribers. Callbacks must return at once; most of them wake a background loop."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._forward: Callable[[str], None] | None = None

    def subscribe(self, topic: str, callback: Callable[[], None]) -> None:
        """Call `callback` whenever this or another process publishes the topic."""
        self._subscribers[topic].append(callback)

    def forward_to(self, send: Callable[[str], None]) -> None:
        """Also send every topic that is published from now on to other processes."""
        self._forward = send

    def publish(self, topic: str) -> None:
        """Call the subscribers of this process, and notify other processes if forwarding is on."""
        self.publish_locally(topic)
        if self._forward is not None:
            self._forward(topic)

    def publish_locally(self, topic: str) -> None:
        """Call only the subscribers of this process. A topic without subscribers has no effect."""
        for callback in self._subscribers.get(topic, ()):
            callback()

    def publish_all_locally(self) -> None:
        """Publish every topic once within this process, because notifications may have been lost."""
        for topic in self._subscribers:
            self.publish_locally(topic)
