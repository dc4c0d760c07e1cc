"""The OpenAPI description, behind an admin token. There is no page for it: such pages load scripts from elsewhere."""

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from app.web import problems
from app.web.dependencies import require_admin
from app.web.webhook import description as webhook_description
from app.web.webhook import route as webhooks

router = APIRouter(tags=["health"], dependencies=[Depends(require_admin)], responses=problems.declared(401))


@router.get("/openapi.json", summary="This description")
async def openapi(request: Request) -> JSONResponse:
    """The description of every call, the bare webhook door included."""
    app = request.app
    described = get_openapi(title=app.title, version=app.version, routes=app.routes)
    described["paths"] = {webhooks.PATH: webhook_description.describe(), **described["paths"]}
    described["components"]["schemas"]["Problem"] = problems.SCHEMA
    return JSONResponse(described)
