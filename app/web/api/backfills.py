"""Backfills: start, list, show and cancel them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from app.domain.backfill import Backfill, BackfillState
from app.domain.errors import BadOrder, Conflict, NoLyticsToken
from app.domain.export import ExportState
from app.web.api.exports import ExportId
from app.web.auth import require_admin
from app.web.dependencies import Dependencies, Injected
from app.web.problems import declared

router = APIRouter(tags=["backfills"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

BackfillId = Annotated[int, Path(ge=1, le=2**63 - 1)]
Mode = Literal["loud", "quiet"]
NAMELESS = frozenset({ExportState.NEEDS_NAME, ExportState.NAME_TAKEN})


class BackfillOrder(BaseModel):
    """The options of a backfill."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode = Field(
        default="loud",
        description="`loud` adds one member at a time, which starts flows. `quiet` is not available in this version.",
    )
    dry_run: bool = Field(default=False, description="Only count. No call is made to Sailthru.")
    prune: bool = Field(
        default=False,
        description="Also remove members who left the audience. Not available in this version.",
    )


class BackfillView(BaseModel):
    """A backfill and its progress."""

    id: int
    export_id: int
    state: BackfillState
    mode: Mode
    dry_run: bool
    scanned: int = Field(description="Rows read so far.")
    total: int | None = Field(
        description="Members of the audience, as counted by Lytics; null before the first page is read."
    )
    queued: int = Field(description="Members queued for delivery. For a dry run: members that a run would queue.")
    skipped: dict[str, int] = Field(
        description="Rows that were not queued, by reason: `already_there`, `changed_since`, `no_address`, `invalid`,"
        " `erased`, `unreadable`."
    )
    joins_at_most: int | None = Field(description="The largest number of joins, and so of started flows.")
    rate: float | None = Field(description="Rows per second, a moving average.")
    eta_seconds: float | None = Field(description="Remaining seconds at this rate.")
    waiting_for: str | None = Field(description="Why the backfill waits; null if it does not wait.")
    reason: str | None = Field(description="Why the backfill ended early.")
    created_at: datetime
    ended_at: datetime | None


class BackfillsView(BaseModel):
    """The newest backfills of an export."""

    items: list[BackfillView]


@router.post(
    "/exports/{export_id}/backfills",
    summary="Start a backfill",
    status_code=202,
    responses=declared(400, 404, 409, 422),
)
async def start_backfill(
    service: Injected, export_id: ExportId, order: Annotated[BackfillOrder | None, Body()] = None
) -> BackfillView:
    """Starts a backfill of the audience's present members. Returns the running backfill if the export has one."""
    order = order or BackfillOrder()
    if order.mode == "quiet":
        raise BadOrder("Quiet backfills are not available in this version. Leave out `mode`.", reason="not_yet")
    if order.prune:
        raise BadOrder("Pruning is not available in this version. Leave out `prune`.", reason="not_yet")
    return await begin_backfill(service, export_id, is_dry_run=order.dry_run)


@router.get(
    "/exports/{export_id}/backfills", summary="List the newest backfills of an export", responses=declared(404, 422)
)
async def list_backfills(service: Injected, export_id: ExportId) -> BackfillsView:
    """Lists the newest twenty backfills, newest first."""
    await service.exports.get(export_id)
    now = service.clock()
    backfills = await service.backfills.find_by_export(export_id)
    return BackfillsView(items=[_view(backfill, now) for backfill in backfills])


@router.get("/exports/{export_id}/backfills/{backfill_id}", summary="Show a backfill", responses=declared(404, 422))
async def show_backfill(service: Injected, export_id: ExportId, backfill_id: BackfillId) -> BackfillView:
    """Shows the progress of a backfill."""
    return _view(await service.backfills.get(export_id, backfill_id), service.clock())


@router.delete(
    "/exports/{export_id}/backfills/{backfill_id}", summary="Cancel a backfill", responses=declared(404, 422)
)
async def cancel_backfill(service: Injected, export_id: ExportId, backfill_id: BackfillId) -> BackfillView:
    """Stops a backfill after the present page.

    Members that are already queued are still delivered. A backfill that has ended does not change.
    """
    return _view(await service.backfills.cancel(export_id, backfill_id), service.clock())


async def begin_backfill(service: Dependencies, export_id: int, *, is_dry_run: bool) -> BackfillView:
    """Return the running backfill of an export, or start one.

    Raises:
        NoLyticsToken: LYTICS_API_TOKEN is not set.
        Conflict: the export has no list yet, or it is stopped.
    """
    export = await service.exports.get(export_id)
    if service.lytics is None:
        raise NoLyticsToken
    if export.state in NAMELESS:
        raise Conflict(
            f"Export {export_id} has no list yet, so its members cannot be added. Name it first: "
            f'PATCH /exports/{export_id} {{"name": "..."}}.',
            reason="no_list",
        )
    if export.state is ExportState.STOPPED:
        raise Conflict(
            f"Export {export_id} is stopped. To start it again, call POST /exports with its audience.",
            reason="stopped",
        )
    backfill = await service.backfills.open(export_id, is_dry_run=is_dry_run)
    service.backfill_started()
    return _view(backfill, service.clock())


def _view(backfill: Backfill, now: datetime) -> BackfillView:
    rate, eta = backfill.rate(now), backfill.eta(now)
    return BackfillView(
        id=backfill.id,
        export_id=backfill.export_id,
        state=backfill.state,
        mode="loud",
        dry_run=backfill.is_dry_run,
        scanned=backfill.scanned,
        total=backfill.total,
        queued=backfill.queued,
        skipped=dict(backfill.skipped),
        joins_at_most=backfill.joins_at_most,
        rate=None if rate is None else round(rate, 1),
        eta_seconds=None if eta is None else round(eta.total_seconds(), 1),
        waiting_for=backfill.waiting_for,
        reason=backfill.reason,
        created_at=backfill.created_at,
        ended_at=backfill.ended_at,
    )
