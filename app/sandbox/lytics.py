"""
A Lytics: its audiences and its fields, read with an API token.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.sandbox import control
from app.sandbox.answers import JSONObject
from app.sandbox.audiences import (
    CREATED,
    SCALAR_TYPES,
    SPRING_BUYERS,
    USUAL_FIELDS,
    Audience,
    Field,
    schema_field,
    segment,
)
from app.sandbox.patience import Patience
from app.sandbox.readings import reply
from app.sandbox.rules import Faults, Target

ONE_SEGMENT = "/v2/segment/"
METHODS = frozenset({"GET"})
ENDPOINTS = frozenset({"/v2/segment", f"{ONE_SEGMENT}{{id}}", "/v2/schema/user/field"})


@dataclass
class Availability:
    """
    Ways not to be there: every answer is 503; the token is known, but has expired.
    """

    unreachable: bool = False
    token_expired: bool = False


class LyticsSandbox:
    """
    An ASGI app. Its doors for tests and demos are under `/_sandbox/`:

    - `GET state`
    - `POST audiences` `{"id", "name", "slug"?}`, or an array of them as `{"audiences": [...]}`: adds or renames
    - `POST availability` `{"unreachable": bool, "token_expired": bool}`
    - `POST faults`, `GET faults`: see `control.fault_doors`; the endpoint of one audience is "/v2/segment/{id}", and
      its id or slug, as the call names it, is what the `ids` of a rule are about
    - `POST reset`: forgets the counts and becomes reachable; audiences stay
    """

    def __init__(
        self, token: str, audiences: Iterable[Audience] = (SPRING_BUYERS,), *, fields: Iterable[Field] = USUAL_FIELDS
    ) -> None:
        self.audiences = {audience.id: audience for audience in audiences}
        self.fields = tuple(fields)
        self.availability = Availability()
        self.faults = Faults(methods=METHODS, endpoints=ENDPOINTS)
        self.calls: Counter[str] = Counter()
        self._token = token
        self._requests = 0
        self._patience = Patience()
        self._faults_met: Counter[str] = Counter()
        show_faults, set_faults = control.fault_doors(self.faults)
        self._doors = control.doors(
            {"state": self._show, "faults": show_faults},
            {"audiences": self._change, "availability": self._fail, "faults": set_faults, "reset": self._reset},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serves one request.
        """
        if scope["type"] == "http" and not scope["path"].startswith(control.PREFIX):
            with suppress(ClientDisconnect):
                await self._serve(Request(scope, receive), send)
        else:
            await self._doors(scope, receive, send)

    def put(self, *audiences: Audience) -> None:
        """
        Adds audiences, or replaces those with the same ids.
        """
        self.audiences |= {audience.id: audience for audience in audiences}

    def shut_down(self) -> None:
        """
        Lets nothing wait any longer: late readings are answered, hung ones hung up on.
        """
        self._patience.end()

    def state(self) -> JSONObject:
        """
        All there is to see, as JSON.
        """
        return {
            "audiences": [{"id": one.id, "name": one.name, "slug": one.slug} for one in self.audiences.values()],
            "calls": dict(self.calls),
            "faults": dict(self._faults_met),
            "unreachable": self.availability.unreachable,
            "token_expired": self.availability.token_expired,
        }

    async def _serve(self, request: Request, send: Send) -> None:
        self._requests += 1
        path = request.url.path
        label = path.removeprefix(ONE_SEGMENT).lower() if path.startswith(ONE_SEGMENT) else None
        endpoint = path if label is None else f"{ONE_SEGMENT}{{id}}"
        self.calls[f"{request.method} {endpoint}"] += 1
        fault = self.faults.meet(Target(request.method, endpoint, person=label))
        if fault:
            self._faults_met[fault.kind] += 1
        await reply(request, send, fault=fault, read=lambda: self._answer(request, path), patience=self._patience)

    def _answer(self, request: Request, path: str) -> Response:
        if self.availability.unreachable:
            return PlainTextResponse("Service Unavailable", status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        if request.headers.get("authorization") != self._token:
            return JSONResponse({"message": "Not authorized", "status": 401}, status_code=HTTPStatus.UNAUTHORIZED)
        if self.availability.token_expired:
            return JSONResponse({"message": "Expired Token", "status": 401}, status_code=HTTPStatus.UNAUTHORIZED)
        return self._read(request, path) if request.method == "GET" else self._not_found("not found")

    def _read(self, request: Request, path: str) -> Response:
        if path == "/v2/segment":
            return self._segments(request)
        if path.startswith(ONE_SEGMENT):
            return self._segment(request, path.removeprefix(ONE_SEGMENT))
        if path == "/v2/schema/user/field":
            return self._schema(request)
        return self._not_found("not found")

    def _segment(self, request: Request, label: str) -> Response:
        for audience in self.audiences.values():
            if label in (audience.id, audience.slug):
                return self._found(segment(audience, with_size=_wants_sizes(request)))
        return self._not_found("segment not found")

    def _segments(self, request: Request) -> Response:
        table, kind, valid = (request.query_params.get(name, "all") for name in ("table", "kind", "valid"))
        return self._found(
            [
                segment(audience, with_size=_wants_sizes(request))
                for audience in self.audiences.values()
                if table in ("all", "user")
                and kind in ("all", audience.kind)
                and valid in ("all", "false" if audience.is_invalid else "true")
            ]
        )

    def _schema(self, request: Request) -> Response:
        wanted = request.query_params.get("filter", "all")
        return self._found(
            [
                schema_field(field)
                for field in self.fields
                if wanted in ("all", "scalar" if field.type in SCALAR_TYPES else "nonscalar")
            ]
        )

    def _found(self, data: object) -> Response:
        return JSONResponse({"data": data, "status": 200, "request_id": self._request_id()})

    def _not_found(self, text: str) -> Response:
        error = {"code": "NOTFOUND-003", "message": text, "level": "warn", "timestamp": CREATED}
        return JSONResponse(
            {"status": 404, "errors": [error], "request_id": self._request_id()}, status_code=HTTPStatus.NOT_FOUND
        )

    def _request_id(self) -> str:
        return f"00000000-0000-4000-8000-{self._requests:012d}"

    async def _show(self, _request: Request) -> JSONResponse:
        return JSONResponse(self.state())

    async def _change(self, request: Request) -> JSONResponse:
        wish = await control.read_object(request)
        wishes = wish.get("audiences", [wish])
        if not isinstance(wishes, list):
            raise control.BadWish("`audiences` is an array.")
        self.put(*[self._wished(one) for one in wishes])
        return JSONResponse(self.state())

    def _wished(self, wish: object) -> Audience:
        if not isinstance(wish, dict) or not isinstance(wish.get("id"), str) or not isinstance(wish.get("name"), str):
            raise control.BadWish("An audience has an `id` and a `name`, both texts.")
        known = self.audiences.get(wish["id"])
        slug = wish.get("slug") or (known.slug if known else wish["name"].lower().replace(" ", "_"))
        if known:
            return replace(known, name=wish["name"], slug=str(slug))
        return Audience(wish["id"], wish["name"], str(slug))

    async def _fail(self, request: Request) -> JSONResponse:
        control.set_switches(self.availability, await control.read_object(request))
        return JSONResponse(self.state())

    async def _reset(self, _request: Request) -> JSONResponse:
        self.shut_down()
        self.faults.set(())
        self._faults_met.clear()
        self.calls.clear()
        self.availability = Availability()
        return JSONResponse(self.state())


def _wants_sizes(request: Request) -> bool:
    return request.query_params.get("sizes") == "true"
