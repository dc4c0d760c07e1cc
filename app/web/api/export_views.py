"""The API's views of exports."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.domain.export import ExportState
from app.domain.report import ExportReport, Freshness


class AudienceView(BaseModel):
    """The audience in Lytics."""

    id: str
    slug: str
    name: str | None = Field(description="Null until the name is known.")


class FreshnessView(BaseModel):
    """The time between accepting a change and its confirmation by Sailthru, over the last hour.

    Each value may be up to 25 % too high.
    """

    p50_seconds: float
    p95_seconds: float


class ExportView(BaseModel):
    """An export and its state."""

    id: int
    state: ExportState
    reason: str | None = Field(description="Why the export is not running or has no list yet, and the next step.")
    audience: AudienceView
    authorization: str
    list: str | None = Field(description="The Sailthru list; null until the audience's name is known.")
    list_ready: bool
    email_field: str
    fields: dict[str, str]
    counts: dict[str, int] = Field(
        description="Membership changes: accepted = delivered + superseded + pending + dead + erased + cancelled."
    )
    members: int = Field(description="Members whose desired state is `in`.")
    freshness: FreshnessView | None = Field(description="Null if nothing was delivered in the last hour.")
    oldest_pending_at: datetime | None = Field(description="When the oldest pending change was accepted.")
    last_webhook_at: datetime | None
    is_silent: bool = Field(
        description="True if the export received webhooks before, but none for longer than SILENT_AFTER_HOURS."
    )
    created_at: datetime


def export_view(report: ExportReport, *, is_silent: bool) -> ExportView:
    export = report.export
    counts = dict(report.counts)
    members = counts.pop("members")
    return ExportView(
        id=export.id,
        state=export.state,
        reason=export.reason,
        audience=AudienceView(id=export.audience_id, slug=export.audience_slug, name=export.audience_name),
        authorization=export.account,
        list=export.list_name,
        list_ready=export.list_ready_at is not None,
        email_field=export.email_field,
        fields=dict(export.fields),
        counts=counts,
        members=members,
        freshness=None if report.freshness is None else _freshness(report.freshness),
        oldest_pending_at=report.oldest_pending_at,
        last_webhook_at=report.last_event_at,
        is_silent=is_silent,
        created_at=export.created_at,
    )


def _freshness(freshness: Freshness) -> FreshnessView:
    return FreshnessView(
        p50_seconds=round(freshness.p50.total_seconds(), 3), p95_seconds=round(freshness.p95.total_seconds(), 3)
    )
