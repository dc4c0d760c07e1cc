"""`POST /exports`: start an export, as with the form "Start Export" in Lytics."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import NoLyticsToken
from app.exports.start import DEFAULT_EMAIL_FIELD, Action, Order, Plan
from app.web.api.backfills import BackfillView, begin_backfill
from app.web.api.export_views import AudienceView, ExportView
from app.web.api.exports import AudienceName, FieldName, Fields, State, view_of
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["exports"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


Notes = Annotated[list[str], Field(description="What to know of it.")]


class ExportOrder(BaseModel):
    """What to export, whereto, and what goes along."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    audience: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="Its id, slug or name in Lytics."
    )
    authorization: Annotated[str, Field(min_length=1, max_length=64)] = "default"
    email_field: FieldName | None = Field(
        default=None,
        description=f"Which Lytics field holds the address, for good: `{DEFAULT_EMAIL_FIELD}` if left out.",
    )
    fields: Fields | None = Field(
        default=None,
        description="Lytics fields, or Lytics field → Sailthru var. Left out: none, or those of the export there is.",
    )
    existing_users: bool = Field(
        default=False, description="Bring over who is in the audience now, too: flows start for all who join by it."
    )
    name: AudienceName | None = Field(
        default=None, description="Names the list, where Lytics can't be asked or the audience's own name is taken."
    )
    adopt: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        default=None, description="The export that goes on with this audience, which was made again in Lytics."
    )
    state: State | None = Field(
        default=None, description="`paused` makes the list, and tells nobody before it is resumed."
    )
    preview: bool = Field(default=False, description="Only say what it would come to.")


class PlanView(BaseModel):
    """What an order would come to."""

    would: Action
    export_id: int | None
    audience: AudienceView
    authorization: str
    list: str
    email_field: str
    fields: dict[str, str]
    notes: Notes


class StartedView(BaseModel):
    """The export, and what to know of it."""

    export: ExportView
    backfill: BackfillView | None
    notes: Notes


@router.post(
    "/exports",
    summary="Start an export, change or revive it",
    status_code=202,
    response_model=StartedView,
    responses={200: {"description": "A preview", "model": PlanView}, **declared(400, 404, 409, 422)},
)
async def start_export(doors: Injected, wanted: Annotated[ExportOrder, Body()]) -> Response:
    """Makes the list at once, since a flow in Lifecycle Optimizer can only be built on a list that exists. The same
    audience and authorization again: changes the fields, or revives it if it was stopped.
    """
    order = Order(
        audience=wanted.audience,
        account=wanted.authorization,
        email_field=wanted.email_field,
        fields=wanted.fields,
        name=wanted.name,
        adopt=wanted.adopt,
        is_paused=None if wanted.state is None else wanted.state == "paused",
    )
    if wanted.existing_users and doors.lytics is None:
        raise NoLyticsToken
    plan = await doors.starting.plan(order)
    if wanted.preview:
        return _answer(200, _plan_view(plan))
    export = await doors.starting.carry_out(plan, order)
    await doors.status.make_list(export)
    doors.status.exports_changed()
    backfill = await begin_backfill(doors, export.id, is_dry_run=False) if wanted.existing_users else None
    view = StartedView(export=await view_of(doors, export.id), backfill=backfill, notes=list(plan.notes))
    return _answer(202, view)


def _answer(status: int, view: BaseModel) -> Response:
    return Response(view.model_dump_json(), status, media_type="application/json")


def _plan_view(plan: Plan) -> PlanView:
    return PlanView(
        would=plan.would,
        export_id=None if plan.export is None else plan.export.id,
        audience=AudienceView(id=plan.audience.id, slug=plan.audience.slug, name=plan.audience.name),
        authorization=plan.account,
        list=plan.list_name,
        email_field=plan.email_field,
        fields=dict(plan.chosen.fields),
        notes=list(plan.notes),
    )
