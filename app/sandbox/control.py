"""The doors beside the imitated API, under `/_sandbox/`: see the state, hold calls, change what happens. Unsigned
JSON.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.sandbox.accounts import Account, Switches
from app.sandbox.answers import JSONObject
from app.sandbox.behaviour import Hold
from app.sandbox.calls import ENDPOINTS, METHODS
from app.sandbox.observation import Observation
from app.sandbox.rules import Faults, read_wish

PREFIX = "/_sandbox/"


class Sandbox(Protocol):
    """What the doors open onto."""

    switches: Switches
    faults: Faults

    def state(self, *, with_log: bool = True) -> JSONObject:
        """All there is to see."""
        ...

    def hold(self, hold: Hold) -> None:
        """Keeps calls open."""
        ...

    def release(self) -> int:
        """Lets them go on; returns how many there were."""
        ...

    def set_latency(self, mean: float, spread: float) -> None:
        """How long calls take."""
        ...

    def reset(self) -> None:
        """Starts anew."""
        ...


def sailthru_doors(sandbox: Sandbox) -> Starlette:
    """The control app of a Sailthru sandbox.

    - `GET state` (`?log=false` leaves the calls out)
    - `POST hold` `{"after": "apply" or "before", "then": "apply" or "drop", "methods": [...], "endpoints": [...]}`
    - `POST release`
    - `POST latency` `{"mean": seconds, "spread": seconds}`
    - `POST switches` `{"rejoin_fires": bool, "duplicate_list_race": bool, "stale_read_seconds": seconds}`
    - `POST faults`, `GET faults`: see `fault_doors`
    - `POST reset`
    """
    show_faults, set_faults = fault_doors(sandbox.faults)

    async def state(request: Request) -> JSONResponse:
        return JSONResponse(sandbox.state(with_log=request.query_params.get("log") != "false"))

    async def hold(request: Request) -> JSONResponse:
        sandbox.hold(_hold(await read_object(request)))
        return JSONResponse({"ok": True})

    async def release(_request: Request) -> JSONResponse:
        return JSONResponse({"ok": True, "released": sandbox.release()})

    async def latency(request: Request) -> JSONResponse:
        wish = await read_object(request)
        sandbox.set_latency(_seconds(wish, "mean"), _seconds(wish, "spread"))
        return JSONResponse({"ok": True})

    async def switches(request: Request) -> JSONResponse:
        set_switches(sandbox.switches, await read_object(request))
        return JSONResponse(asdict(sandbox.switches))

    async def reset(_request: Request) -> JSONResponse:
        sandbox.reset()
        return JSONResponse({"ok": True})

    return doors(
        {"state": state, "faults": show_faults},
        {"faults": set_faults, **{f.__name__: f for f in (hold, release, latency, switches, reset)}},
    )


def describe_account(account: Account, observation: Observation, *, with_log: bool) -> JSONObject:
    """One account's part of the state."""
    addresses = sorted(profile.email for profile in account.profiles.values() if profile.email)
    described: JSONObject = {
        "lists": {name: sorted(account.members(name)) for name in sorted(account.list_names())},
        "lists_by_name": {name: len(account.lists_named(name)) for name in sorted(account.list_names())},
        "profiles": {"count": len(account.profiles), "addresses": addresses},
        "rejoins": dict(account.rejoins),
        "lo_events": [{**asdict(event), "time": event.time.isoformat()} for event in account.lo_events],
        "calls": dict(observation.calls),
        "answers": {
            name: {str(status): n for status, n in sorted(counts.items())}
            for name, counts in observation.answers.items()
        },
        "faults": dict(observation.faults),
        "most_in_a_minute": dict(observation.most_in_a_minute),
        "over_limit": dict(observation.over_limit),
        "most_at_once_per_person": observation.most_at_once_per_person,
    }
    return described | ({"calls_log": observation.log_as_json()} if with_log else {})


Door = Callable[[Request], Awaitable[JSONResponse]]


class BadWish(Exception):
    """A control call that can't be understood."""


def doors(reads: dict[str, Door], writes: dict[str, Door]) -> Starlette:
    """An app of control doors: those to read by GET, those to change something by POST."""

    async def refuse(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    routes = [Route(PREFIX + name, door, methods=["GET"]) for name, door in reads.items()]
    routes += [Route(PREFIX + name, door, methods=["POST"]) for name, door in writes.items()]
    return Starlette(routes=routes, exception_handlers={BadWish: refuse})


def fault_doors(faults: Faults) -> tuple[Door, Door]:
    """The doors to see and to set the faults.

    What is set replaces what was: `{"rules": [{"fault": {"kind": "error", "status": 429, "code": 43}, "times": 3}],
    "seed": 7}`, with all that `Rule` and the kinds of `faults` have; `{}` heals. Besides or instead,
    `"mix": {"chance": 0.1, "weights": {"hang": 1, "error": 5}}`.
    """

    async def show(_request: Request) -> JSONResponse:
        return JSONResponse(faults.as_json())

    async def replace(request: Request) -> JSONResponse:
        await read_object(request)
        try:
            wish = read_wish(await request.body() or b"{}")
            faults.set(wish.all_rules(), seed=wish.seed)
        except ValueError as error:
            raise BadWish(str(error)) from error
        return JSONResponse(faults.as_json())

    return show, replace


async def read_object(request: Request) -> JSONObject:
    """The JSON object in the body; an empty body is an empty object."""
    try:
        wish = await request.json() if await request.body() else {}
    except ValueError as error:
        raise BadWish("The body is not JSON.") from error
    if not isinstance(wish, dict):
        raise BadWish("The body is not a JSON object.")
    return wish


def set_switches(switches: object, wish: JSONObject) -> None:
    """Sets the named attributes of `switches`, which are true or false or a number of seconds; a name it does not
    have, or another value, is refused.
    """
    for name, value in {name: _switch(switches, wish, name) for name in wish}.items():
        setattr(switches, name, value)


def _switch(switches: object, wish: JSONObject, name: str) -> bool | float:
    present, value = getattr(switches, name, None), wish[name]
    if isinstance(present, int | float) and not isinstance(present, bool):
        return _seconds(wish, name)
    if not isinstance(present, bool) or not isinstance(value, bool):
        raise BadWish(f"Not a switch with true or false: {name}")
    return value


def _hold(wish: JSONObject) -> Hold:
    after, then = wish.get("after", "apply"), wish.get("then", "apply")
    if after not in ("apply", "before") or then not in ("apply", "drop"):
        raise BadWish('`after` is "apply" or "before", `then` is "apply" or "drop".')
    return Hold(
        after=after,
        then=then,
        methods=_some_of(METHODS, wish, "methods"),
        endpoints=_some_of(ENDPOINTS, wish, "endpoints"),
    )


def _some_of(known: frozenset[str], wish: JSONObject, name: str) -> frozenset[str]:
    chosen = wish.get(name) or sorted(known)
    if not isinstance(chosen, list) or not known.issuperset(chosen):
        raise BadWish(f"`{name}` is a list of {', '.join(sorted(known))}.")
    return frozenset(chosen)


def _seconds(wish: JSONObject, name: str) -> float:
    value = wish.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise BadWish(f"`{name}` is a number of seconds, 0 or more.")
    return float(value)
