"""Signals: which subscribers a topic reaches, here and in other processes."""

from functools import partial

from app.signals import BACKFILL_QUEUED, EXPORTS_CHANGED, Signals, members_due


class Ears:
    """Signals with three subscribers, which record what they hear."""

    def __init__(self) -> None:
        self.signals = Signals()
        self.heard: list[str] = []
        for topic in (EXPORTS_CHANGED, BACKFILL_QUEUED, members_due("default")):
            self.signals.subscribe(topic, partial(self.heard.append, topic))


def test_topic_reaches_its_subscribers_only() -> None:
    ears = Ears()
    ears.signals.publish(EXPORTS_CHANGED)
    ears.signals.publish(members_due("default"))
    ears.signals.publish(members_due("other"))

    assert ears.heard == ["exports", "due:default"]


def test_published_topic_is_forwarded_and_heard_topic_is_not() -> None:
    ears, sent = Ears(), list[str]()
    ears.signals.forward_to(sent.append)
    ears.signals.publish(members_due("other"))
    ears.signals.publish_locally(BACKFILL_QUEUED)

    assert sent == ["due:other"]
    assert ears.heard == ["backfill"]


def test_hear_everything_reaches_each_subscriber_once() -> None:
    """Notifications may have been missed while the connection was lost."""
    ears, sent = Ears(), list[str]()
    ears.signals.forward_to(sent.append)
    ears.signals.publish_all_locally()

    assert ears.heard == ["exports", "backfill", "due:default"]
    assert sent == []
