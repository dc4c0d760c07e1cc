"""Signals: the subscribers that a topic reaches, in this and in other processes."""

from functools import partial

from app.signals import BACKFILL_QUEUED, EXPORTS_CHANGED, Signals, members_due


class Subscribers:
    """Signals with three subscribers that record the received topics."""

    def __init__(self) -> None:
        self.signals = Signals()
        self.received: list[str] = []
        for topic in (EXPORTS_CHANGED, BACKFILL_QUEUED, members_due("default")):
            self.signals.subscribe(topic, partial(self.received.append, topic))


def test_topic_reaches_its_subscribers_only() -> None:
    subscribers = Subscribers()
    subscribers.signals.publish(EXPORTS_CHANGED)
    subscribers.signals.publish(members_due("default"))
    subscribers.signals.publish(members_due("other"))

    assert subscribers.received == ["exports", "due:default"]


def test_published_topic_is_forwarded_and_local_topic_is_not() -> None:
    subscribers, sent = Subscribers(), list[str]()
    subscribers.signals.forward_to(sent.append)
    subscribers.signals.publish(members_due("other"))
    subscribers.signals.publish_locally(BACKFILL_QUEUED)

    assert sent == ["due:other"]
    assert subscribers.received == ["backfill"]


def test_publish_all_locally_reaches_each_subscriber_once() -> None:
    """Notifications may have been lost with the connection."""
    subscribers, sent = Subscribers(), list[str]()
    subscribers.signals.forward_to(sent.append)
    subscribers.signals.publish_all_locally()

    assert subscribers.received == ["exports", "backfill", "due:default"]
    assert sent == []
