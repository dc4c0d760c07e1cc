"""Topics within this process. A publisher does not know who listens.

LISTEN/NOTIFY is the remote half: a process without workers forwards what it publishes, and a process that hears a
topic from the database publishes it to its own subscribers. `main` connects the two halves.
"""

from collections import defaultdict
from collections.abc import Callable

EXPORTS_CHANGED = "exports"
BACKFILL_QUEUED = "backfill"


def members_due(account: str) -> str:
    """The topic for due members of one account."""
    return f"due:{account}"


class Signals:
    """Publishes topics to subscribers. Callbacks return at once: most of them wake a background loop."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._forward: Callable[[str], None] | None = None

    def subscribe(self, topic: str, callback: Callable[[], None]) -> None:
        """Call back each time that the topic is published, here or by another process."""
        self._subscribers[topic].append(callback)

    def forward_to(self, send: Callable[[str], None]) -> None:
        """Send what is published from now on to other processes too."""
        self._forward = send

    def publish(self, topic: str) -> None:
        """Tell the subscribers of this process, and other processes if this one forwards."""
        self.hear(topic)
        if self._forward is not None:
            self._forward(topic)

    def hear(self, topic: str) -> None:
        """Tell the subscribers of this process only. A topic without subscribers is ignored."""
        for callback in self._subscribers.get(topic, ()):
            callback()

    def hear_everything(self) -> None:
        """Publish every topic once to the subscribers of this process: notifications may have been missed."""
        for topic in self._subscribers:
            self.hear(topic)
