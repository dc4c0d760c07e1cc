"""
Exports: what is kept, how it stands, and a name where Lytics gave none.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import NotFound
from app.domain.export import ExportState
from app.store.reports import ExportReport
from app.web.dependencies import Behind, require_admin
from app.web.problems import declared

router = APIRouter(tags=["exports"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

# What a 64-bit column can hold.
ExportId = Annotated[int, Path(ge=1, le=2**63 - 1)]


class AudienceView(BaseModel):
    """
    The audience in Lytics; its name is null until it is known.
    """

    id: str
    slug: str
    name: str | None


class ExportView(BaseModel):
    """
    One export and how it stands.
    """

    id: int
    state: ExportState
    reason: str | None = Field(description="Why it does not run, and what to do.")
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
    last_webhook_at: datetime | None
    created_at: datetime


class UnexportedView(BaseModel):
    """
    An audience whose events are ignored, since nobody exports it.
    """

    audience_id: str
    audience_slug: str
    events: int
    last_event_at: datetime


class ExportsView(BaseModel):
    """
    All exports.
    """

    items: list[ExportView]
    unexported: list[UnexportedView]


class ExportPatch(BaseModel):
    """
    What can be changed: the audience's name, where Lytics can't be asked or the list's name is taken.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    # Sailthru's list name has room for 120 characters, "Lytics " included.
    name: str = Field(min_length=1, max_length=113, pattern=r"^[^\x00-\x1f\x7f]+$")


@router.get("/exports", summary="All exports and how they stand")
async def list_exports(doors: Behind) -> ExportsView:
    """
    Every export, oldest first.
    """
    unexported = [
        UnexportedView(
            audience_id=one.audience_id,
            audience_slug=one.audience_slug,
            events=one.events,
            last_event_at=one.last_event_at,
        )
        for one in await doors.exports.unexported()
    ]
    return ExportsView(items=[_view(one) for one in await doors.exports.reports()], unexported=unexported)


@router.get("/exports/{export_id}", summary="One export", responses=declared(404, 422))
async def show_export(doors: Behind, export_id: ExportId) -> ExportView:
    """
    One export.
    """
    return await _one(doors, export_id)


@router.patch("/exports/{export_id}", summary="Name an export", responses=declared(400, 404, 409, 422))
async def change_export(doors: Behind, export_id: ExportId, patch: Annotated[ExportPatch, Body()]) -> ExportView:
    """
    Give an export the name of its audience; the list is made at once, and those who wait are called for.
    """
    await doors.exports.name(export_id, patch.name)
    doors.status.exports_changed()
    return await _one(doors, export_id)


async def _one(doors: Behind, export_id: int) -> ExportView:
    found = await doors.exports.reports(export_id)
    if not found:
        raise NotFound(f"There is no export {export_id}. GET /exports lists them.")
    return _view(found[0])


def _view(report: ExportReport) -> ExportView:
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
        last_webhook_at=report.last_event_at,
        created_at=export.created_at,
    )
