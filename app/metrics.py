"""The metrics of the service. No label contains personal data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.domain.export import ExportState

PREFIX = "lytics_sailthru"
# A 404 for an unknown audience also shows that Lytics answers and accepts the token.
LYTICS_ANSWERED = frozenset({"ok", "not_found"})


@dataclass(frozen=True, slots=True)
class ExportGauges:
    """The values of one export's gauges."""

    export_id: int
    state: ExportState
    counts: Mapping[str, int]
    last_event_at: datetime | None
    oldest_pending_at: datetime | None
    is_silent: bool


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._gauge("build_info", "The running version.", "version").labels(version).set(1)
        self._add_webhook_metrics()
        self._add_delivery_metrics()
        self._add_lytics_metrics()
        self._add_export_metrics()
        self._add_account_metrics()

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", help_text, [label], buckets=buckets, registry=self.registry)

    def _add_webhook_metrics(self) -> None:
        self._events = self._counter(
            "events",
            "Audience events received, by outcome: accepted, ignored (duplicate, outdated or unexported), or rejected.",
            "outcome",
        )
        self._accepted, self._ignored, self._rejected = map(self._events.labels, ("accepted", "ignored", "rejected"))
        self._webhooks = self._counter("webhooks", "Webhooks stored, by the label of their token.", "token")
        self._refused = self._counter(
            "webhooks_refused", "Webhooks and single events that were not stored, by reason.", "reason"
        )
        self._last_webhook = self._gauge(
            "last_webhook_timestamp_seconds", "Time at which the newest webhook was stored."
        )
        self._commits = self._histogram(
            "group_commit_size",
            "Number of requests that shared one transaction.",
            "what",
            (1, 2, 5, 10, 20, 50, 100, 200, 500),
        )

    def _add_delivery_metrics(self) -> None:
        self._attempts = self._counter(
            "attempts",
            "Delivery attempts, by account and outcome: ok, Sailthru's error number, or one of our codes.",
            "account",
            "outcome",
        )
        self._latency = self._histogram(
            "confirmed_seconds",
            "Seconds from accepting a change to its confirmation by Sailthru.",
            "account",
            (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60, 300, 3600, 86400),
        )
        self._repeated = self._counter(
            "joins_repeated_after_unknown",
            "Joins sent although an earlier one, with an unknown outcome, may have been carried out.",
            "account",
        )
        self._calls = self._counter(
            "calls",
            "Calls to Sailthru, by account, call (such as POST user) and answer: ok, Sailthru's error number, or one "
            "of our codes.",
            "account",
            "call",
            "answer",
        )

    def _add_lytics_metrics(self) -> None:
        self._lytics_calls = self._counter(
            "lytics_calls",
            "Calls to Lytics, by answer: ok, the HTTP status, or one of our codes such as expired_token.",
            "answer",
        )
        self._lytics_up = self._gauge("lytics_up", "1 if Lytics answered the newest call, else 0.")
        self._lytics_up.set(1)

    def _add_export_metrics(self) -> None:
        self._changes = self._gauge("changes", "Membership changes by export and state.", "export", "state")
        self._state = self._gauge("export_state", "1 for the present state of an export.", "export", "state")
        self._since_webhook = self._gauge(
            "seconds_since_last_webhook",
            "Seconds since the newest webhook of an export. Missing before its first.",
            "export",
        )
        self._silent = self._gauge(
            "export_silent",
            "1 while an export that had webhooks has had none for SILENT_AFTER_HOURS.",
            "export",
        )
        self._oldest = self._gauge(
            "oldest_pending_seconds",
            "Age of the oldest pending change, by export. 0 if no change is pending.",
            "export",
        )

    def _add_account_metrics(self) -> None:
        self._paused = self._gauge("account_paused", "1 while the circuit breaker of an account is open.", "account")
        self._calls_left = self._gauge(
            "budget_left",
            "Calls that may leave now within our share of Sailthru's limit, by account and call, such as POST user.",
            "account",
            "call",
        )

    def received(self, token: str, *, accepted: int, ignored: int, rejected: int, at: datetime) -> None:
        """Count a stored webhook by the label of its token."""
        self._webhooks.labels(token).inc()
        for outcome, count in ((self._accepted, accepted), (self._ignored, ignored), (self._rejected, rejected)):
            if count:
                outcome.inc(count)
        self._last_webhook.set(at.timestamp())

    def refused(self, reason: str) -> None:
        """Count a webhook that was not stored."""
        self._refused.labels(reason).inc()

    def confirmed(self, account: str, latency: timedelta) -> None:
        """Record the time between the acceptance of a change and its confirmation."""
        self._latency.labels(account).observe(max(latency.total_seconds(), 0))

    def attempted(self, account: str, outcome: str) -> None:
        """Count a delivery attempt that ended."""
        self._attempts.labels(account, outcome).inc()

    def join_repeated(self, account: str) -> None:
        """Count a join that was sent although Sailthru may have applied an earlier one."""
        self._repeated.labels(account).inc()

    def committed(self, kind: str, size: int) -> None:
        """Record the number of requests that shared a transaction."""
        self._commits.labels(kind).observe(size)

    def called(self, account: str, call: str, answer: str) -> None:
        """Count a call to Sailthru that ended."""
        self._calls.labels(account, call, answer).inc()

    def lytics_called(self, answer: str) -> None:
        """Count a call to Lytics that ended."""
        self._lytics_calls.labels(answer).inc()
        self._lytics_up.set(answer in LYTICS_ANSWERED)

    def set_exports(self, exports: Iterable[ExportGauges], now: datetime) -> None:
        """Set the gauges of all exports. The gauges of other exports are removed."""
        for gauge in (self._changes, self._state, self._since_webhook, self._silent, self._oldest):
            gauge.clear()
        for export in exports:
            label = str(export.export_id)
            for name, count in export.counts.items():
                self._changes.labels(label, name).set(count)
            for state in ExportState:
                self._state.labels(label, state.value).set(state is export.state)
            if export.last_event_at is not None:
                self._since_webhook.labels(label).set(max((now - export.last_event_at).total_seconds(), 0))
            self._silent.labels(label).set(export.is_silent)
            pending_since = export.oldest_pending_at or now
            self._oldest.labels(label).set(max((now - pending_since).total_seconds(), 0))

    def set_account(self, account: str, *, is_open: bool, calls_left: Mapping[str, int]) -> None:
        """Set the gauges of one account.

        Args:
            is_open: the circuit breaker is open.
            calls_left: calls that may leave now, by call such as `POST user`.
        """
        self._paused.labels(account).set(is_open)
        for call, calls in calls_left.items():
            self._calls_left.labels(account, call).set(calls)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
