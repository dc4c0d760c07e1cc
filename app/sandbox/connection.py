"""Ends a connection before the client has its answer."""

from collections.abc import Callable
from typing import Any, Literal

from starlette.types import Receive, Scope

# The key in the ASGI scope's extensions under which a server offers the functions `reset` and `close`.
EXTENSION = "app.sandbox.connection"


async def hang_up(scope: Scope, receive: Receive, *, how: Literal["reset", "close"]) -> None:
    """End the connection. `close` still delivers the data that was sent before; `reset` does not.

    Raises:
        ConnectionResetError: the client is in this process, so there is no connection to end.
    """
    extensions: dict[str, Any] = scope.get("extensions", {})
    if EXTENSION not in extensions:
        raise ConnectionResetError("The sandbox has hung up.")
    end: Callable[[], None] = extensions[EXTENSION][how]
    end()
    # A server logs an error when the app returns before the connection has ended.
    await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Wait until the client disconnects. The body of the request must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
