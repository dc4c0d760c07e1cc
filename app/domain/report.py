"""Reports about exports and memberships, as data for the API, metrics and alarms."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.export import Export, ExportState
from app.domain.membership import Confirmed, Membership


@dataclass(frozen=True, slots=True)
class Freshness:
    """Time from acceptance to confirmation of the changes that were confirmed in the last hour."""

    p50: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An export with its counts.

    Args:
        counts: accepted = delivered + superseded + pending + dead + erased + cancelled.
        last_event_at: arrival of the newest webhook event.
        freshness: None if nothing was confirmed in the last hour, or if it was not requested.
        oldest_pending_at: when the oldest pending change was accepted; None if there is none or it was not requested.
    """

    export: Export
    counts: Mapping[str, int]
    last_event_at: datetime | None
    freshness: Freshness | None = None
    oldest_pending_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unexported:
    """An audience without an export whose events arrive and are ignored."""

    audience_id: str
    audience_slug: str
    events: int
    last_event_at: datetime


@dataclass(frozen=True, slots=True)
class MembershipReport:
    """One membership, with the data that explains its state.

    Args:
        due_at: when the member is called next, or when its lease ends.
        attempts: number of attempts for the pending changes.
    """

    account: str
    export_id: int
    list_name: str | None
    export_state: ExportState
    membership: Membership
    due_at: datetime | None
    attempts: int

    @property
    def state(self) -> str:
        """Return `settled`, `pending`, `retrying`, `dead_letter`, `held` or `in_doubt`.

        `held`: the export does not run. `in_doubt`: nothing is pending, but the confirmed state is unknown, for
        example because the list was replaced.
        """
        if self.membership.dead_code is not None:
            return "dead_letter"
        if not self.membership.is_pending:
            return "in_doubt" if self.membership.confirmed is Confirmed.UNKNOWN else "settled"
        if self.export_state is not ExportState.RUNNING:
            return "held"
        return "retrying" if self.membership.first_failed_at is not None else "pending"
