"""Health checks, and metrics."""

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from app.web.dependencies import Injected, require_metrics
from app.web.problems import declared

router = APIRouter(tags=["health"])


class HealthView(BaseModel):
    """How the service stands. Neither Sailthru nor the store makes it unready: webhooks must reach it to hear 503."""

    status: str
    version: str
    store: str
    accounts: dict[str, str]


@router.get("/health/live", summary="Is the process alive?")
async def live() -> dict[str, str]:
    """Always the same, as long as the process answers."""
    return {"status": "alive"}


@router.get(
    "/health/ready",
    summary="May webhooks be sent here?",
    response_model=HealthView,
    responses={503: {"description": "Starting up or draining", "model": HealthView}},
)
async def ready(doors: Injected) -> Response:
    """200 after start-up and until draining, else 503; the body tells the store's and the accounts' state."""
    is_ready = doors.status.is_ready
    view = HealthView(
        status="ready" if is_ready else "not ready",
        version=doors.version,
        store=await doors.status.store_state(),
        accounts=doors.status.accounts(),
    )
    return JSONResponse(view.model_dump(), 200 if is_ready else 503)


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    dependencies=[Depends(require_metrics)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **declared(401, 503)},
)
async def metrics(doors: Injected) -> Response:
    """All metrics."""
    return Response(await doors.status.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
