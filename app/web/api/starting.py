"""`POST /exports`: start an export, like the form "Start Export" in Lytics."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import NoLyticsToken
from app.exports.start import DEFAULT_EMAIL_FIELD, Action, Order, Plan
from app.web.api.backfills import BackfillView, begin_backfill
from app.web.api.export_views import AudienceView, ExportView
from app.web.api.exports import AudienceName, FieldName, Fields, State, view_of
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

router = APIRouter(tags=["exports"], dependencies=[Depends(require_admin)], responses=declared(401, 503))


Notes = Annotated[list[str], Field(description="Remarks for the operator about this export.")]


class ExportOrder(BaseModel):
    """The order to export an audience to one account, with the chosen fields."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    audience: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")] = Field(
        description="The id, slug or name of the audience in Lytics."
    )
    authorization: Annotated[str, Field(min_length=1, max_length=64)] = "default"
    email_field: FieldName | None = Field(
        default=None,
        description=f"The Lytics field that holds the address; `{DEFAULT_EMAIL_FIELD}` by default. It cannot be changed"
        " later.",
    )
    fields: Fields | None = Field(
        default=None,
        description="Lytics fields, or Lytics field → Sailthru var. The default is none, or the export's present"
        " fields.",
    )
    existing_users: bool = Field(
        default=False,
        description="Also start a backfill of the present members. Flows start for every member who joins.",
    )
    name: AudienceName | None = Field(
        default=None,
        description="The name for the list, if Lytics is unavailable or the audience's own name is taken.",
    )
    adopt: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        default=None,
        description="The id of an export that continues with this audience, after its audience was created again.",
    )
    state: State | None = Field(
        default=None, description="`paused` creates the list, and delivers nothing until the export is resumed."
    )
    preview: bool = Field(default=False, description="Only show the effect of the call.")


class PlanView(BaseModel):
    """The effect of the call."""

    would: Action
    export_id: int | None
    audience: AudienceView
    authorization: str
    list: str
    email_field: str
    fields: dict[str, str]
    notes: Notes


class StartedView(BaseModel):
    """The export, and notes about it."""

    export: ExportView
    backfill: BackfillView | None
    notes: Notes


@router.post(
    "/exports",
    summary="Start an export, or change an existing one",
    status_code=202,
    response_model=StartedView,
    responses={200: {"description": "A preview", "model": PlanView}, **declared(400, 404, 409, 422)},
)
async def start_export(service: Injected, request: Annotated[ExportOrder, Body()]) -> Response:
    """Starts an export and creates its list at once, because a flow in Lifecycle Optimizer needs an existing list.

    If the audience already has an export in this account, the call changes its fields. It also starts a stopped export
    again.
    """
    order = Order(
        audience=request.audience,
        account=request.authorization,
        email_field=request.email_field,
        fields=request.fields,
        name=request.name,
        adopt=request.adopt,
        is_paused=None if request.state is None else request.state == "paused",
    )
    if request.existing_users and service.lytics is None:
        raise NoLyticsToken
    plan = await service.starter.plan(order)
    if request.preview:
        return _answer(200, _plan_view(plan))
    export = await service.starter.carry_out(plan, order)
    await service.make_list(export)
    service.exports_changed()
    backfill = await begin_backfill(service, export.id, is_dry_run=False) if request.existing_users else None
    view = StartedView(export=await view_of(service, export.id), backfill=backfill, notes=list(plan.notes))
    return _answer(202, view)


def _answer(status: int, view: BaseModel) -> Response:
    return Response(view.model_dump_json(), status, media_type="application/json")


def _plan_view(plan: Plan) -> PlanView:
    return PlanView(
        would=plan.action,
        export_id=None if plan.export is None else plan.export.id,
        audience=AudienceView(id=plan.audience.id, slug=plan.audience.slug, name=plan.audience.name),
        authorization=plan.account,
        list=plan.list_name,
        email_field=plan.email_field,
        fields=dict(plan.chosen.fields),
        notes=list(plan.notes),
    )
