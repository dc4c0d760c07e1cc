"""Every metric's name, labels and buckets; no label holds a person."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.domain.export import ExportState

PREFIX = "lytics_sailthru"
# Also an answer that an audience is unknown shows that Lytics answers and knows the token.
LYTICS_ANSWERED = frozenset({"ok", "not_found"})


@dataclass(frozen=True, slots=True)
class Standing:
    """How one export stands."""

    export_id: int
    state: ExportState
    counts: Mapping[str, int]
    last_event_at: datetime | None
    oldest_pending_at: datetime | None
    is_silent: bool


class Metrics:
    """The metrics of one service, in a registry of its own."""

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
        self._accepted, self._ignored, self._rejected = map(self._events.labels, ("accepted", "ignored", "rejected"))
        self._webhooks = Counter(
            f"{PREFIX}_webhooks",
            "Webhooks stored, by the label of the token that they showed.",
            ["token"],
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
            f"{PREFIX}_confirmed_seconds",
            "Seconds from accepting a change to its confirmation by Sailthru.",
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
        self._calls = Counter(
            f"{PREFIX}_calls",
            "Calls to Sailthru, by account, call (as POST user) and answer: ok, Sailthru's error number, or our word.",
            ["account", "call", "answer"],
            registry=self.registry,
        )
        self._lytics_calls = Counter(
            f"{PREFIX}_lytics_calls",
            "Calls to Lytics, by answer: ok, HTTP status, or a word of ours such as expired_token.",
            ["answer"],
            registry=self.registry,
        )
        self._lytics_up = Gauge(
            f"{PREFIX}_lytics_up", "1 if the last call to Lytics was answered, 0 if not.", registry=self.registry
        )
        self._lytics_up.set(1)
        self._waiting = Gauge(
            f"{PREFIX}_changes", "Membership changes by export and state.", ["export", "state"], registry=self.registry
        )
        self._state = Gauge(
            f"{PREFIX}_export_state", "1 for the state an export is in.", ["export", "state"], registry=self.registry
        )
        self._since_webhook = Gauge(
            f"{PREFIX}_seconds_since_last_webhook",
            "Since the last webhook for an export; missing before its first.",
            ["export"],
            registry=self.registry,
        )
        self._silent = Gauge(
            f"{PREFIX}_export_silent",
            "1 while an export that had webhooks has had none for SILENT_AFTER_HOURS.",
            ["export"],
            registry=self.registry,
        )
        self._oldest = Gauge(
            f"{PREFIX}_oldest_pending_seconds",
            "How long the change waits that waits for longest, by export; 0 if none does.",
            ["export"],
            registry=self.registry,
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

    def received(self, token: str, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        """A webhook was stored, which showed the token of this label."""
        self._webhooks.labels(token).inc()
        for outcome, count in ((self._accepted, accepted), (self._ignored, ignored), (self._rejected, rejected)):
            if count:
                outcome.inc(count)
        self._last_webhook.set(at.timestamp())

    def refused(self, reason: str) -> None:
        """A webhook was not stored."""
        self._refused.labels(reason).inc()

    def confirmed(self, account: str, latency: timedelta) -> None:
        """A change was told, this long after it was accepted."""
        self._latency.labels(account).observe(max(latency.total_seconds(), 0))

    def attempted(self, account: str, outcome: str) -> None:
        """An attempt ended."""
        self._attempts.labels(account, outcome).inc()

    def join_repeated(self, account: str) -> None:
        """A join is sent although an earlier one may have been carried out."""
        self._repeated.labels(account).inc()

    def committed(self, what: str, size: int) -> None:
        """A transaction was shared by this many."""
        self._commits.labels(what).observe(size)

    def called(self, account: str, call: str, answer: str) -> None:
        """A call to Sailthru ended."""
        self._calls.labels(account, call, answer).inc()

    def asked_lytics(self, answer: str) -> None:
        """A call to Lytics ended."""
        self._lytics_calls.labels(answer).inc()
        self._lytics_up.set(answer in LYTICS_ANSWERED)

    def exports_stand(self, exports: Iterable[Standing], now: datetime) -> None:
        """How all exports stand now."""
        for gauge in (self._waiting, self._state, self._since_webhook, self._silent, self._oldest):
            gauge.clear()
        for one in exports:
            label = str(one.export_id)
            for what, count in one.counts.items():
                self._waiting.labels(label, what).set(count)
            for state in ExportState:
                self._state.labels(label, state.value).set(state is one.state)
            if one.last_event_at is not None:
                self._since_webhook.labels(label).set(max((now - one.last_event_at).total_seconds(), 0))
            self._silent.labels(label).set(one.is_silent)
            waits_since = one.oldest_pending_at or now
            self._oldest.labels(label).set(max((now - waits_since).total_seconds(), 0))

    def accounts_stand(self, accounts: Mapping[str, str], budgets: Mapping[str, Mapping[str, int]]) -> None:
        """The states of all accounts, and what is left of their budgets, as they are now."""
        for account, state in accounts.items():
            self._paused.labels(account).set(state != "running")
        for account, room in budgets.items():
            for call, calls in room.items():
                self._budget_left.labels(account, call).set(calls)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
