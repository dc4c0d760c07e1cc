"""The webhook endpoint for Lytics."""

from fastapi import APIRouter, Request, Response

from app.web.problems import declared
from app.web.webhook import description
from app.web.webhook.intake import WebhookIntake

PATH = "/webhooks/lytics"
METHODS = ("POST", "PUT", "PATCH")

router = APIRouter(tags=["webhooks"], responses=declared(400, 401, 408, 413, 503))


# The route takes the bare request, so that the token is checked before the body and FastAPI never answers 422.
@router.api_route(f"{PATH}/", methods=list(METHODS), include_in_schema=False)
@router.api_route(
    PATH,
    methods=list(METHODS),
    summary="Receive audience events from Lytics",
    response_description="All valid events are on disk.",
    response_model=None,
    responses={200: {"content": {"application/json": {"schema": description.RECEIPT}}}},
    openapi_extra=description.OPERATION,
)
async def receive_webhook(request: Request) -> Response:
    """Answers 200 after all valid events are on disk, and 400 if no event is valid.

    The token may be in `Authorization`, in `X-API-Key` or in `?token=`.
    """
    intake: WebhookIntake = request.app.state.webhooks
    return await intake.answer(request)
