"""The endpoint for Lytics, as an ordinary path operation."""

from fastapi import APIRouter, Request, Response

from app.web.problems import declared
from app.web.webhook import description
from app.web.webhook.intake import WebhookIntake

PATH = "/webhooks/lytics"
METHODS = ("POST", "PUT", "PATCH")

router = APIRouter(tags=["webhooks"], responses=declared(400, 401, 408, 413, 503))


# It takes the bare request: the token is checked before the body is read, and an invalid body must never answer 422.
@router.api_route(f"{PATH}/", methods=list(METHODS), include_in_schema=False)
@router.api_route(
    PATH,
    methods=list(METHODS),
    summary="Receive audience events from Lytics",
    response_description="All events that can be stored are on disk.",
    response_model=None,
    responses={200: {"content": {"application/json": {"schema": description.RECEIPT}}}},
    openapi_extra=description.OPERATION,
)
async def receive_webhook(request: Request) -> Response:
    """Answers 200 once all events that can be stored are on disk, and 400 if no event can be stored.

    The token may be in `Authorization`, in `X-API-Key` or in `?token=`.
    """
    intake: WebhookIntake = request.app.state.webhooks
    return await intake.answer(request)
