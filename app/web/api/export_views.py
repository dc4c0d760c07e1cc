"""How exports are shown."""

from datetime import datetime

from pydantic import BaseModel, Field

from app.domain.export import ExportState
from app.store.exports.reports import ExportReport, Freshness


class AudienceView(BaseModel):
    """The audience in Lytics; its name is null until it is known."""

    id: str
    slug: str
    name: str | None


class FreshnessView(BaseModel):
    """From a change being accepted to Sailthru being told, of the changes told in the last hour; at most a quarter too
    long.
    """

    p50_seconds: float
    p95_seconds: float


class ExportView(BaseModel):
    """One export and how it stands."""

    id: int
    state: ExportState
    reason: str | None = Field(description="Why it does not run, or has no list yet, and what to do.")
    audience: AudienceView
    authorization: str
    list: str | None = Field(description="The Sailthru list; null until the audience's name is known.")
    list_ready: bool
    email_field: str
    fields: dict[str, str]
    counts: dict[str, int] = Field(
        description="Membership changes: accepted = delivered + superseded + pending + dead + erased + cancelled."
    )
    members: int = Field(description="People who are wanted on the list.")
    freshness: FreshnessView | None = Field(description="Null if nothing was told in the last hour.")
    oldest_pending_at: datetime | None = Field(description="Since when the change waits that waits for longest.")
    last_webhook_at: datetime | None
    is_silent: bool = Field(description="No webhook for longer than SILENT_AFTER_HOURS, although there were some.")
    created_at: datetime


def export_view(report: ExportReport, *, is_silent: bool) -> ExportView:
    """An export as it is shown."""
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
