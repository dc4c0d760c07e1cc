"""Exports: list, show, change and stop them. `app.web.api.starting` starts them."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.errors import NotFound
from app.sailthru.list_names import list_name
from app.web.api.export_views import ExportView, export_view
from app.web.auth import require_admin
from app.web.dependencies import Dependencies, Injected
from app.web.problems import declared

router = APIRouter(tags=["exports"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

# The largest value of a 64-bit column.
ExportId = Annotated[int, Path(ge=1, le=2**63 - 1)]
FieldName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
# A Sailthru list name has at most 120 characters, including "Lytics ".
AudienceName = Annotated[str, Field(min_length=1, max_length=113, pattern=r"^[^\x00-\x1f\x7f]+$")]
Fields = Annotated[list[FieldName], Field(max_length=75)] | Annotated[dict[FieldName, FieldName], Field(max_length=75)]
State = Literal["running", "paused"]


class UnexportedView(BaseModel):
    """An audience without an export. Its events are ignored."""

    audience_id: str
    audience_slug: str
    events: int
    last_event_at: datetime


class ExportsView(BaseModel):
    """All exports, oldest first, and the audiences without an export."""

    items: list[ExportView]
    unexported: list[UnexportedView]


class ExportPatch(BaseModel):
    """The changes to an export. Missing parts do not change."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    state: State | None = Field(
        default=None, description="`paused` stores changes without delivering them. `running` delivers them."
    )
    fields: Fields | None = Field(
        default=None,
        description="Lytics fields, or Lytics field → Sailthru var. They apply to new changes only.",
    )
    name: AudienceName | None = Field(
        default=None, description="The audience's name; only while the state is `needs_name` or `name_taken`."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.state is None and self.fields is None and self.name is None:
            raise ValueError("give state, fields or name")
        return self


@router.get("/exports", summary="List all exports and their state")
async def list_exports(service: Injected) -> ExportsView:
    """Lists every export, oldest first, and the audiences whose events are ignored."""
    unexported = [
        UnexportedView(
            audience_id=audience.audience_id,
            audience_slug=audience.audience_slug,
            events=audience.events,
            last_event_at=audience.last_event_at,
        )
        for audience in await service.exports.unexported()
    ]
    reports = await service.exports.reports()
    items = [export_view(report, is_silent=service.is_silent(report.export.id)) for report in reports]
    return ExportsView(items=items, unexported=unexported)


@router.get("/exports/{export_id}", summary="Show an export", responses=declared(404, 422))
async def show_export(service: Injected, export_id: ExportId) -> ExportView:
    """Shows the state and the counts of an export."""
    return await view_of(service, export_id)


@router.patch(
    "/exports/{export_id}", summary="Pause, resume, name, or choose fields", responses=declared(400, 404, 409, 422)
)
async def change_export(service: Injected, export_id: ExportId, patch: Annotated[ExportPatch, Body()]) -> ExportView:
    """Sets the name first, then the fields, then the state. Delivery of pending changes begins at once."""
    if patch.name is not None:
        await service.exports.name(export_id, patch.name, list_name(patch.name))
    if patch.fields is not None:
        chosen = await service.starter.check_fields(patch.fields)
        await service.exports.set_fields(export_id, chosen)
    if patch.state is not None:
        await (service.exports.pause if patch.state == "paused" else service.exports.resume)(export_id)
    service.exports_changed()
    return await view_of(service, export_id)


@router.delete("/exports/{export_id}", summary="Stop an export", responses=declared(404, 422))
async def stop_export(service: Injected, export_id: ExportId) -> ExportView:
    """Stops an export: ignores its new events and cancels its pending changes.

    The list does not change. Only `POST /exports` starts the export again.
    """
    await service.exports.stop(export_id)
    service.exports_changed()
    return await view_of(service, export_id)


async def view_of(service: Dependencies, export_id: int) -> ExportView:
    """Return an export as the API shows it.

    Raises:
        NotFound: there is no such export.
    """
    reports = await service.exports.reports(export_id)
    if not reports:
        raise NotFound(f"There is no export {export_id}. GET /exports lists all exports.")
    return export_view(reports[0], is_silent=service.is_silent(export_id))
