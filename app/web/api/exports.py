"""Exports: what is kept and how it stands; paused and resumed, renamed, stopped."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.errors import NotFound
from app.web.api.export_views import ExportView, export_view
from app.web.dependencies import Dependencies, Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["exports"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

# What a 64-bit column can hold.
ExportId = Annotated[int, Path(ge=1, le=2**63 - 1)]
FieldName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
# Sailthru's list name has room for 120 characters, "Lytics " included.
AudienceName = Annotated[str, Field(min_length=1, max_length=113, pattern=r"^[^\x00-\x1f\x7f]+$")]
Fields = Annotated[list[FieldName], Field(max_length=75)] | Annotated[dict[FieldName, FieldName], Field(max_length=75)]
State = Literal["running", "paused"]


class UnexportedView(BaseModel):
    """An audience whose events are ignored, since nobody exports it."""

    audience_id: str
    audience_slug: str
    events: int
    last_event_at: datetime


class ExportsView(BaseModel):
    """All exports."""

    items: list[ExportView]
    unexported: list[UnexportedView]


class ExportPatch(BaseModel):
    """What can be changed of an export; whatever is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    state: State | None = Field(default=None, description="`paused` keeps changes and tells nobody of them.")
    fields: Fields | None = Field(
        default=None, description="Lytics fields, or Lytics field → Sailthru var; from the next changes on."
    )
    name: AudienceName | None = Field(
        default=None, description="The audience's name; only while the state is `needs_name` or `name_taken`."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.state is None and self.fields is None and self.name is None:
            raise ValueError("give state, fields or name")
        return self


@router.get("/exports", summary="All exports and how they stand")
async def list_exports(doors: Injected) -> ExportsView:
    """Every export, oldest first."""
    unexported = [
        UnexportedView(
            audience_id=one.audience_id,
            audience_slug=one.audience_slug,
            events=one.events,
            last_event_at=one.last_event_at,
        )
        for one in await doors.exports.unexported()
    ]
    items = [export_view(one, is_silent=doors.status.is_silent(one.export.id)) for one in await doors.exports.reports()]
    return ExportsView(items=items, unexported=unexported)


@router.get("/exports/{export_id}", summary="One export", responses=declared(404, 422))
async def show_export(doors: Injected, export_id: ExportId) -> ExportView:
    """One export."""
    return await view_of(doors, export_id)


@router.patch(
    "/exports/{export_id}", summary="Pause, resume, name, choose fields", responses=declared(400, 404, 409, 422)
)
async def change_export(doors: Injected, export_id: ExportId, patch: Annotated[ExportPatch, Body()]) -> ExportView:
    """A name is given first, then fields, then the state; what was resumed or named is told at once."""
    if patch.name is not None:
        await doors.exports.name(export_id, patch.name)
    if patch.fields is not None:
        chosen = await doors.starting.check_fields(patch.fields)
        await doors.exports.set_fields(export_id, chosen)
    if patch.state is not None:
        await (doors.exports.pause if patch.state == "paused" else doors.exports.resume)(export_id)
    doors.status.exports_changed()
    return await view_of(doors, export_id)


@router.delete("/exports/{export_id}", summary="Stop an export", responses=declared(404, 422))
async def stop_export(doors: Injected, export_id: ExportId) -> ExportView:
    """From now on its events are ignored and pending changes cancelled; the list stays as it is. Only `POST /exports`
    lets it run again.
    """
    await doors.exports.stop(export_id)
    doors.status.exports_changed()
    return await view_of(doors, export_id)


async def view_of(doors: Dependencies, export_id: int) -> ExportView:
    """One export as it is shown."""
    found = await doors.exports.reports(export_id)
    if not found:
        raise NotFound(f"There is no export {export_id}. GET /exports lists them.")
    return export_view(found[0], is_silent=doors.status.is_silent(export_id))
