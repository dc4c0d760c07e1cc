"""The control routes of the Sailthru sandbox."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.sandbox.bodies import JSONObject
from app.sandbox.control import (
    BadControlRequest,
    control_app,
    fault_endpoints,
    read_object,
    read_seconds,
    set_switches,
)
from app.sandbox.sailthru.accounts import Account
from app.sandbox.sailthru.call_log import CallLog
from app.sandbox.sailthru.calls import ENDPOINTS, METHODS
from app.sandbox.sailthru.executor import Hold

if TYPE_CHECKING:
    from app.sandbox.sailthru.app import SailthruSandbox


def sailthru_control(sandbox: "SailthruSandbox") -> Starlette:
    """Build the control app.

    - `GET state` (`?log=false` leaves the calls out)
    - `POST hold` `{"after": "apply" or "before", "then": "apply" or "drop", "methods": [...], "endpoints": [...]}`
    - `POST release`
    - `POST latency` `{"mean": seconds, "spread": seconds}`
    - `POST switches` `{"rejoin_fires": bool, "duplicate_list_race": bool, "stale_read_seconds": seconds}`
    - `POST faults`, `GET faults`: see `fault_endpoints`
    - `POST reset`
    """
    show_faults, set_faults = fault_endpoints(sandbox.faults)

    async def state(request: Request) -> JSONResponse:
        return JSONResponse(sandbox.state(with_log=request.query_params.get("log") != "false"))

    async def hold(request: Request) -> JSONResponse:
        sandbox.hold(_hold(await read_object(request)))
        return JSONResponse({"ok": True})

    async def release(_request: Request) -> JSONResponse:
        return JSONResponse({"ok": True, "released": sandbox.release()})

    async def latency(request: Request) -> JSONResponse:
        body = await read_object(request)
        sandbox.set_latency(read_seconds(body, "mean"), read_seconds(body, "spread"))
        return JSONResponse({"ok": True})

    async def switches(request: Request) -> JSONResponse:
        set_switches(sandbox.switches, await read_object(request))
        return JSONResponse(asdict(sandbox.switches))

    async def reset(_request: Request) -> JSONResponse:
        sandbox.reset()
        return JSONResponse({"ok": True})

    return control_app(
        {"state": state, "faults": show_faults},
        {"faults": set_faults, **{f.__name__: f for f in (hold, release, latency, switches, reset)}},
    )


def describe_account(account: Account, call_log: CallLog, *, with_log: bool) -> JSONObject:
    """Return one account's part of the state."""
    addresses = sorted(profile.email for profile in account.profiles.values() if profile.email)
    described: JSONObject = {
        "lists": {name: sorted(account.members(name)) for name in sorted(account.list_names())},
        "lists_by_name": {name: len(account.lists_named(name)) for name in sorted(account.list_names())},
        "profiles": {"count": len(account.profiles), "addresses": addresses},
        "rejoins": dict(account.rejoins),
        "lo_events": [{**asdict(event), "time": event.time.isoformat()} for event in account.lo_events],
        "calls": dict(call_log.calls),
        "answers": {
            name: {str(status): n for status, n in sorted(counts.items())} for name, counts in call_log.answers.items()
        },
        "faults": dict(call_log.faults),
        "most_in_a_minute": dict(call_log.most_in_a_minute),
        "over_limit": dict(call_log.over_limit),
        "most_at_once_per_person": call_log.most_at_once_per_person,
    }
    return described | ({"calls_log": call_log.as_json()} if with_log else {})


def _hold(body: JSONObject) -> Hold:
    after, then = body.get("after", "apply"), body.get("then", "apply")
    if after not in ("apply", "before") or then not in ("apply", "drop"):
        raise BadControlRequest('`after` must be "apply" or "before", `then` must be "apply" or "drop".')
    return Hold(
        after=after,
        then=then,
        methods=_subset(METHODS, body, "methods"),
        endpoints=_subset(ENDPOINTS, body, "endpoints"),
    )


def _subset(known: frozenset[str], body: JSONObject, name: str) -> frozenset[str]:
    chosen = body.get(name) or sorted(known)
    if not isinstance(chosen, list) or not known.issuperset(chosen):
        raise BadControlRequest(f"`{name}` must be a list of {', '.join(sorted(known))}.")
    return frozenset(chosen)
