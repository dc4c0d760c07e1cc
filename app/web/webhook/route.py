"""The webhook endpoint for Lytics."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from app.web.problems import declared
from app.web.webhook import description
from app.web.webhook.intake import WebhookIntake

PATH = "/webhooks/lytics"
METHODS = ("POST", "PUT", "PATCH")


class RequestRoute(APIRoute):
    """A route whose endpoint takes the request and nothing else.

    It skips FastAPI's resolution of parameters, which takes a tenth of the time of a webhook.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        if self.dependencies or self.dependant.dependencies:
            raise TypeError(f"{self.path} has dependencies, which this route would ignore: use APIRoute.")
        return self.endpoint


router = APIRouter(route_class=RequestRoute, tags=["webhooks"], responses=declared(400, 401, 408, 413, 503))


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
