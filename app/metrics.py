"""
Every metric's name, labels and buckets; no label holds a person.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PREFIX = "lytics_sailthru"


class Metrics:
    """
    The metrics of one service, in a registry of its own.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        build = Gauge(f"{PREFIX}_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        self._events = Counter(
            f"{PREFIX}_events",
            "Audience events received, by outcome: accepted, ignored (duplicate, older, nobody's) or rejected.",
            ["outcome"],
            registry=self.registry,
        )
        self._refused = Counter(
            f"{PREFIX}_webhooks_refused",
            "Webhooks, or single events of them, that were not kept, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._last_webhook = Gauge(
            f"{PREFIX}_last_webhook_timestamp_seconds", "When the last webhook was stored.", registry=self.registry
        )
        self._attempts = Counter(
            f"{PREFIX}_attempts",
            "Delivery attempts, by account and outcome: ok, Sailthru's error number, or a word of ours.",
            ["account", "outcome"],
            registry=self.registry,
        )
        self._latency = Histogram(
            f"{PREFIX}_told_seconds",
            "From a change accepted to Sailthru told.",
            ["account"],
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60, 300, 3600, 86400),
            registry=self.registry,
        )
        self._repeated = Counter(
            f"{PREFIX}_joins_repeated_after_unknown",
            "Joins sent although an earlier one, whose outcome is unknown, may have been carried out.",
            ["account"],
            registry=self.registry,
        )
        self._commits = Histogram(
            f"{PREFIX}_group_commit_size",
            "How many requests shared one transaction.",
            ["what"],
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
            registry=self.registry,
        )
        self._waiting = Gauge(
            f"{PREFIX}_changes", "Membership changes by export and state.", ["export", "state"], registry=self.registry
        )
        self._paused = Gauge(
            f"{PREFIX}_account_paused", "1 while no call to this account can work.", ["account"], registry=self.registry
        )
        self._budget_left = Gauge(
            f"{PREFIX}_budget_left",
            "Calls that may leave now within our share of Sailthru's limit, by account and call, as POST user.",
            ["account", "call"],
            registry=self.registry,
        )

    def received(self, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        """
        A webhook was stored.
        """
        for outcome, count in (("accepted", accepted), ("ignored", ignored), ("rejected", rejected)):
            if count:
                self._events.labels(outcome).inc(count)
        self._last_webhook.set(at.timestamp())

    def refused(self, reason: str) -> None:
        """
        A webhook was not stored.
        """
        self._refused.labels(reason).inc()

    def told(self, account: str, latency: timedelta) -> None:
        """
        A change was told, this long after it was accepted.
        """
        self._latency.labels(account).observe(max(latency.total_seconds(), 0))

    def attempted(self, account: str, outcome: str) -> None:
        """
        An attempt ended.
        """
        self._attempts.labels(account, outcome).inc()

    def join_repeated(self, account: str) -> None:
        """
        A join is sent although an earlier one may have been carried out.
        """
        self._repeated.labels(account).inc()

    def committed(self, what: str, size: int) -> None:
        """
        A transaction was shared by this many.
        """
        self._commits.labels(what).observe(size)

    def render(
        self,
        exports: Iterable[tuple[int, dict[str, int]]],
        accounts: Mapping[str, str],
        budgets: Mapping[str, Mapping[str, int]],
    ) -> bytes:
        """
        All metrics in Prometheus' text format, with the counts, account states and budgets as they are now.
        """
        for export_id, counts in exports:
            for state, count in counts.items():
                self._waiting.labels(str(export_id), state).set(count)
        for account, state in accounts.items():
            self._paused.labels(account).set(state != "running")
        for account, room in budgets.items():
            for call, calls in room.items():
                self._budget_left.labels(account, call).set(calls)
        return generate_latest(self.registry)
