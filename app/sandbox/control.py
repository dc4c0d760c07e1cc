"""The control routes that both sandboxes share, under `/_sandbox/`. They take JSON and need no signature."""

import math
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.sandbox.bodies import JSONObject
from app.sandbox.rules import Faults, read_fault_settings

PREFIX = "/_sandbox/"

Endpoint = Callable[[Request], Awaitable[JSONResponse]]


class BadControlRequest(Exception):
    """An invalid control request. The answer is 400 with this text."""


def control_app(reads: dict[str, Endpoint], writes: dict[str, Endpoint]) -> Starlette:
    """Build the app of the control routes: `reads` by GET, `writes` by POST."""

    async def refuse(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    routes = [Route(PREFIX + name, endpoint, methods=["GET"]) for name, endpoint in reads.items()]
    routes += [Route(PREFIX + name, endpoint, methods=["POST"]) for name, endpoint in writes.items()]
    return Starlette(routes=routes, exception_handlers={BadControlRequest: refuse})


def fault_endpoints(faults: Faults) -> tuple[Endpoint, Endpoint]:
    """Build the endpoints that show and replace the faults.

    The body `{"rules": [{"fault": {"kind": "error", "status": 429, "code": 43}, "times": 3}], "seed": 7}` replaces all
    rules. See `rules.Rule` and `faults` for the parts of a rule. `{}` removes all faults.
    `"mix": {"chance": 0.1, "weights": {"hang": 1, "error": 5}}` adds random faults.
    """

    async def show(_request: Request) -> JSONResponse:
        return JSONResponse(faults.as_json())

    async def replace(request: Request) -> JSONResponse:
        await read_object(request)
        try:
            settings = read_fault_settings(await request.body() or b"{}")
            faults.set(settings.all_rules(), seed=settings.seed)
        except ValueError as error:
            raise BadControlRequest(str(error)) from error
        return JSONResponse(faults.as_json())

    return show, replace


async def read_object(request: Request) -> JSONObject:
    """Return the JSON object in the body; an empty body counts as an empty object."""
    try:
        body = await request.json() if await request.body() else {}
    except ValueError as error:
        raise BadControlRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadControlRequest("The body is not a JSON object.")
    return body


def set_switches(switches: object, body: JSONObject) -> None:
    """Set the named attributes of `switches`: booleans, or numbers of seconds.

    Raises:
        BadControlRequest: a name is unknown or a value has the wrong type; nothing has changed.
    """
    for name, value in {name: _switch(switches, body, name) for name in body}.items():
        setattr(switches, name, value)


def read_seconds(body: JSONObject, name: str) -> float:
    value = body.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise BadControlRequest(f"`{name}` must be a number of seconds, 0 or more.")
    return float(value)


def _switch(switches: object, body: JSONObject, name: str) -> bool | float:
    current, value = getattr(switches, name, None), body[name]
    if isinstance(current, int | float) and not isinstance(current, bool):
        return read_seconds(body, name)
    if not isinstance(current, bool) or not isinstance(value, bool):
        raise BadControlRequest(f"`{name}` is not a switch, or its value is not true or false.")
    return value
