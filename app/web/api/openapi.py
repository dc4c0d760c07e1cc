"""The OpenAPI description. It needs an admin token and has no HTML page, which would load scripts from other hosts."""

import warnings

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from app.web import problems
from app.web.auth import require_admin
from app.web.webhook.route import PATH as WEBHOOK_PATH

router = APIRouter(tags=["health"], dependencies=[Depends(require_admin)], responses=problems.declared(401))


@router.get("/openapi.json", summary="Show this description")
async def show_openapi(request: Request) -> JSONResponse:
    """Describes every endpoint of the service."""
    app = request.app
    with warnings.catch_warnings():
        # The webhook route has three methods, and FastAPI gives all of them one operation id.
        warnings.filterwarnings("ignore", "Duplicate Operation ID")
        described = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for method, operation in described["paths"].get(WEBHOOK_PATH, {}).items():
        operation["operationId"] = f"{method}_webhook"
    described["components"]["schemas"]["Problem"] = problems.SCHEMA
    return JSONResponse(described)
