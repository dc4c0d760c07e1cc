"""Backfills: everybody who is in an audience now, brought over by hand."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from app.domain.backfill import Backfill, BackfillState
from app.domain.errors import BadOrder, Conflict, NoLyticsToken
from app.domain.export import ExportState
from app.web.api.exports import ExportId
from app.web.dependencies import Dependencies, Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["backfills"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

BackfillId = Annotated[int, Path(ge=1, le=2**63 - 1)]
Mode = Literal["loud", "quiet"]
NAMELESS = frozenset({ExportState.NEEDS_NAME, ExportState.NAME_TAKEN})


class BackfillOrder(BaseModel):
    """How to bring people over."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode = Field(
        default="loud",
        description="`loud` tells Sailthru of one person at a time, which starts flows. `quiet` is not there yet.",
    )
    dry_run: bool = Field(default=False, description="Only count; nobody is told.")
    prune: bool = Field(default=False, description="Not there yet: take off whoever is not in the audience any more.")


class BackfillView(BaseModel):
    """One backfill and how it stands."""

    id: int
    export_id: int
    state: BackfillState
    mode: Mode
    dry_run: bool
    scanned: int = Field(description="Rows read so far.")
    total: int | None = Field(description="People in the audience, as Lytics counts them; null before the first page.")
    queued: int = Field(description="People to be told; of a dry run, who would be.")
    skipped: dict[str, int] = Field(
        description="The other rows by reason: `already_there`, `changed_since`, `no_address`, `invalid`, `erased`,"
        " `unreadable`."
    )
    joins_at_most: int | None = Field(description="How many joins, and so flows, it comes to at most.")
    rate: float | None = Field(description="Rows a second, of late.")
    eta_seconds: float | None = Field(description="How long it still takes at this rate.")
    waiting_for: str | None = Field(description="What has to happen before it goes on.")
    reason: str | None = Field(description="Why it ended before the end.")
    created_at: datetime
    ended_at: datetime | None


class BackfillsView(BaseModel):
    """The newest backfills of an export."""

    items: list[BackfillView]


@router.post(
    "/exports/{export_id}/backfills",
    summary="Bring over who is in the audience now",
    status_code=202,
    responses=declared(400, 404, 409, 422),
)
async def start_backfill(
    doors: Injected, export_id: ExportId, wanted: Annotated[BackfillOrder | None, Body()] = None
) -> BackfillView:
    """Starts a backfill, or returns the one that is under way."""
    order = wanted or BackfillOrder()
    if order.mode == "quiet" or order.prune:
        what = "A quiet backfill" if order.mode == "quiet" else "To prune"
        raise BadOrder(f"{what} is not possible in this version. Leave it out.", reason="not_yet")
    return await begin_backfill(doors, export_id, is_dry_run=order.dry_run)


@router.get("/exports/{export_id}/backfills", summary="The newest backfills of an export", responses=declared(404, 422))
async def list_backfills(doors: Injected, export_id: ExportId) -> BackfillsView:
    """The newest twenty, the newest first."""
    await doors.exports.get(export_id)
    now = doors.status.clock()
    return BackfillsView(items=[_view(one, now) for one in await doors.backfills.of_export(export_id)])


@router.get("/exports/{export_id}/backfills/{backfill_id}", summary="One backfill", responses=declared(404, 422))
async def show_backfill(doors: Injected, export_id: ExportId, backfill_id: BackfillId) -> BackfillView:
    """How far it has come, and what it waits for."""
    return _view(await doors.backfills.get(export_id, backfill_id), doors.status.clock())


@router.delete(
    "/exports/{export_id}/backfills/{backfill_id}", summary="Cancel a backfill", responses=declared(404, 422)
)
async def cancel_backfill(doors: Injected, export_id: ExportId, backfill_id: BackfillId) -> BackfillView:
    """No further page is read; whom it has queued is told all the same. One that has ended stays as it is."""
    return _view(await doors.backfills.cancel(export_id, backfill_id), doors.status.clock())


async def begin_backfill(doors: Dependencies, export_id: int, *, is_dry_run: bool) -> BackfillView:
    """The backfill of an export that is under way, or a new one.

    Raises:
        Conflict: the export can't have one.
    """
    export = await doors.exports.get(export_id)
    if doors.lytics is None:
        raise NoLyticsToken
    if export.state in NAMELESS:
        raise Conflict(
            f"Export {export_id} has no list yet, so nobody can be brought over. Name it first: "
            f'PATCH /exports/{export_id} {{"name": "..."}}.',
            reason="no_list",
        )
    if export.state is ExportState.STOPPED:
        raise Conflict(
            f"Export {export_id} is stopped. POST /exports with its audience starts it again.", reason="stopped"
        )
    backfill = await doors.backfills.open(export_id, is_dry_run=is_dry_run)
    doors.status.backfill_started()
    return _view(backfill, doors.status.clock())


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
