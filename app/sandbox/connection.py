"""The end of a connection before the client has its answer."""

from collections.abc import Callable
from typing import Any, Literal

from starlette.types import Receive, Scope

EXTENSION = "app.sandbox.connection"
"""
What a server that can end a connection in the middle puts into the scope: functions named `reset` and `close`.
"""


async def hang_up(scope: Scope, receive: Receive, *, how: Literal["reset", "close"]) -> None:
    """Ends the connection by `reset`, or by `close`, which lets the client have what was sent so far.

    Raises:
        ConnectionResetError: there is no connection, since the client is in this process; to be let through to it.
    """
    extensions: dict[str, Any] = scope.get("extensions", {})
    if EXTENSION not in extensions:
        raise ConnectionResetError("The sandbox has hung up.")
    end: Callable[[], None] = extensions[EXTENSION][how]
    end()
    # a server takes an app that returns before the connection has ended for broken
    await disconnected(receive)


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone; the body has been received by then, so that there is nothing else to come."""
    while (await receive())["type"] != "http.disconnect":
        pass
