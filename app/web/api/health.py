"""Health checks and metrics."""

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from app import __version__
from app.domain.errors import StoreUnavailable
from app.web.auth import require_metrics
from app.web.dependencies import Dependencies, Injected
from app.web.problems import declared

router = APIRouter(tags=["health"])


class HealthView(BaseModel):
    """The state of the service.

    The service stays ready while Sailthru or the store fails, so that it still answers webhooks with a 503.
    """

    status: str = Field(description="`ready` or `not ready`.")
    version: str
    store: str = Field(description="`ok` or `unavailable`.")
    accounts: dict[str, str] = Field(description="The state of each Sailthru account; see GET /authorizations.")


@router.get("/health/live", summary="Is the process alive?")
async def show_liveness() -> dict[str, str]:
    """Answers 200 while the process runs."""
    return {"status": "alive"}


@router.get(
    "/health/ready",
    summary="Can webhooks be sent to this process?",
    response_model=HealthView,
    responses={503: {"description": "Starting up or draining", "model": HealthView}},
)
async def show_readiness(service: Injected) -> Response:
    """Answers 200 between start-up and draining, otherwise 503. Shows the state of the store and the accounts."""
    is_ready = service.is_ready()
    view = HealthView(
        status="ready" if is_ready else "not ready",
        version=__version__,
        store=await _store_state(service),
        accounts={
            account.label: "running" if account.breaker.open_reason is None else account.breaker.open_reason.value
            for account in service.authorizations()
        },
    )
    return JSONResponse(view.model_dump(), 200 if is_ready else 503)


@router.get(
    "/metrics",
    summary="Metrics in the text format of Prometheus",
    dependencies=[Depends(require_metrics)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **declared(401, 503)},
)
async def show_metrics(service: Injected) -> Response:
    """Needs a metrics token or, if none is set, an admin token."""
    return Response(await service.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _store_state(service: Dependencies) -> str:
    try:
        await service.database.ping()
    except StoreUnavailable:
        return "unavailable"
    return "ok"
