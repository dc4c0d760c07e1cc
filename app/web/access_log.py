"""The access log: one line for each request but webhooks and health checks, with the route's template, never the
path.
"""

import time
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

# Webhooks are counted instead: a line for each would cost more than storing it.
UNLOGGED = ("/webhooks/", "/health/")


class AccessLog:
    """Pure ASGI middleware. A path may hold an address, and a query a token; a route's template holds neither."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and tell how it ended."""
        if scope["type"] != "http" or scope["path"].startswith(UNLOGGED):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path_format", "(none)")
            took = round((time.perf_counter() - began) * 1000, 1)
            log.info("request", method=scope["method"], route=route, status=status, milliseconds=took)
