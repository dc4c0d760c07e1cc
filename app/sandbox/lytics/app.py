"""Simulates Lytics' API: audiences, user fields and scans of members, read with an API token."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from app.sandbox.bodies import JSONObject
from app.sandbox.control import PREFIX
from app.sandbox.delays import Delays
from app.sandbox.lytics.audiences import (
    CREATED,
    SCALAR_TYPES,
    SPRING_BUYERS,
    USUAL_FIELDS,
    Audience,
    Field,
    schema_field,
    segment,
)
from app.sandbox.lytics.control import lytics_control
from app.sandbox.lytics.responses import send_response
from app.sandbox.lytics.scans import Scans
from app.sandbox.rules import Faults, Target

ONE_SEGMENT = "/v2/segment/"
SCAN = "/api/segment/{id}/scan"
METHODS = frozenset({"GET"})
ENDPOINTS = frozenset({"/v2/segment", f"{ONE_SEGMENT}{{id}}", "/v2/schema/user/field", SCAN})

_SCAN = re.compile("/api/segment/([^/]+)/scan")


@dataclass
class Availability:
    """Failures of the whole account. If it is `unreachable`, every answer is 503."""

    unreachable: bool = False
    token_expired: bool = False


class LyticsSandbox:
    """An ASGI app. Tests and the demo control it through `/_sandbox/` (see `control`).

    The `Date` header of every answer comes from `clock`.
    """

    def __init__(
        self,
        token: str,
        audiences: Iterable[Audience] = (SPRING_BUYERS,),
        *,
        fields: Iterable[Field] = USUAL_FIELDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.audiences = {audience.id: audience for audience in audiences}
        self.fields = tuple(fields)
        self.scans = Scans()
        self.availability = Availability()
        self.faults = Faults(methods=METHODS, endpoints=ENDPOINTS)
        self.calls: Counter[str] = Counter()
        self._token = token
        self._clock = clock
        self._requests = 0
        self._delays = Delays()
        self._faults_met: Counter[str] = Counter()
        self._control = lytics_control(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(PREFIX):
            with suppress(ClientDisconnect):
                await self._serve(Request(scope, receive), send)
        else:
            await self._control(scope, receive, send)

    def put(self, *audiences: Audience) -> None:
        """Add audiences, or replace those with the same ids."""
        self.audiences |= {audience.id: audience for audience in audiences}

    def find(self, label: object) -> Audience | None:
        """Return the audience with this id or slug."""
        return next((found for found in self.audiences.values() if label in (found.id, found.slug)), None)

    def reset(self) -> None:
        """Forget counts, faults and switches. Audiences and their members stay."""
        self.shut_down()
        self.faults.set(())
        self._faults_met.clear()
        self.calls.clear()
        self.availability = Availability()
        self.scans.reset()

    def shut_down(self) -> None:
        """End all waits: late requests are answered, hung requests are disconnected."""
        self._delays.end_all()

    def state(self) -> JSONObject:
        """Return the whole state as JSON."""
        return {
            "audiences": [
                {"id": audience.id, "name": audience.name, "slug": audience.slug}
                for audience in self.audiences.values()
            ],
            "members": self.scans.state(),
            "calls": dict(self.calls),
            "faults": dict(self._faults_met),
            "unreachable": self.availability.unreachable,
            "token_expired": self.availability.token_expired,
        }

    async def _serve(self, request: Request, send: Send) -> None:
        self._requests += 1
        endpoint, label = _endpoint(request.url.path)
        self.calls[f"{request.method} {endpoint}"] += 1
        fault = self.faults.meet(Target(request.method, endpoint, person=None if label is None else label.lower()))
        if fault:
            self._faults_met[fault.kind] += 1
        await send_response(
            request,
            self._dated(send),
            fault=fault,
            read=lambda: self._answer(request, endpoint, label),
            delays=self._delays,
        )

    def _dated(self, send: Send) -> Send:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._clock().astimezone(UTC), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        return dated

    def _answer(self, request: Request, endpoint: str, label: str | None) -> Response:
        if self.availability.unreachable:
            return PlainTextResponse("Service Unavailable", status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        if request.headers.get("authorization") != self._token:
            return JSONResponse({"message": "Not authorized", "status": 401}, status_code=HTTPStatus.UNAUTHORIZED)
        if self.availability.token_expired:
            return JSONResponse({"message": "Expired Token", "status": 401}, status_code=HTTPStatus.UNAUTHORIZED)
        return self._read(request, endpoint, label) if request.method == "GET" else self._not_found("not found")

    def _read(self, request: Request, endpoint: str, label: str | None) -> Response:
        if endpoint == "/v2/segment":
            return self._segments(request)
        if endpoint == "/v2/schema/user/field":
            return self._schema(request)
        if endpoint == SCAN:
            return self.scans.answer(self.find(label), request.query_params)
        return self._not_found("not found") if label is None else self._segment(request, label)

    def _segment(self, request: Request, label: str) -> Response:
        audience = self.find(label)
        return (
            self._not_found("segment not found") if audience is None else self._found(self._describe(audience, request))
        )

    def _describe(self, audience: Audience, request: Request) -> JSONObject:
        sized = replace(audience, size=self.scans.size_of(audience))
        return segment(sized, with_size=request.query_params.get("sizes") == "true")

    def _segments(self, request: Request) -> Response:
        table, kind, valid = (request.query_params.get(name, "all") for name in ("table", "kind", "valid"))
        return self._found(
            [
                self._describe(audience, request)
                for audience in self.audiences.values()
                if table in ("all", "user")
                and kind in ("all", audience.kind)
                and valid in ("all", "false" if audience.is_invalid else "true")
            ]
        )

    def _schema(self, request: Request) -> Response:
        filtered_by = request.query_params.get("filter", "all")
        return self._found(
            [
                schema_field(field)
                for field in self.fields
                if filtered_by in ("all", "scalar" if field.type in SCALAR_TYPES else "nonscalar")
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


def _endpoint(path: str) -> tuple[str, str | None]:
    """Return the endpoint's name in rules and counts, and the id or slug in the path."""
    if path.startswith(ONE_SEGMENT):
        return f"{ONE_SEGMENT}{{id}}", path.removeprefix(ONE_SEGMENT)
    scan = _SCAN.fullmatch(path)
    return (path, None) if scan is None else (SCAN, scan[1])
