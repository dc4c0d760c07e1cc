"""Which error becomes which status, always as problem+json that says what to do (RFC 9457)."""

import json
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.domain.errors import (
    AmbiguousAudience,
    AppError,
    BadFields,
    BadOrder,
    CallFailed,
    Conflict,
    NotFound,
    StoreUnavailable,
    UnknownAudience,
)

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 30
MEDIA_TYPE = "application/problem+json"

STATUSES: Mapping[type[AppError], HTTPStatus] = {
    BadOrder: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # The other end's trouble, not ours: what a person has to mend is in the text.
    CallFailed: HTTPStatus.SERVICE_UNAVAILABLE,
}

SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, why, and what to do next."},
        "reason": {
            "type": "string",
            "description": "A fixed word for scripts, where there is one; the code, where a call to Lytics failed.",
        },
        "errors": {
            "type": "array",
            "description": "What is wrong with the request, piece by piece.",
            "items": {"type": "object", "properties": {"at": {"type": "string"}, "rule": {"type": "string"}}},
        },
        "candidates": {
            "type": "array",
            "description": "The audiences that may be meant.",
            "items": {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "slug", "name")}},
        },
        "choices": {"type": "object", "description": "What may be given beside, to make it fit; null for any value."},
    },
}


def problem_body(status: int, detail: str, **more: object) -> bytes:
    """The body of a problem answer."""
    return json.dumps({"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}).encode()


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """A problem answer; a 503 asks to come again in half a minute."""
    extra = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(
        problem_body(status, detail, **more), status, media_type=MEDIA_TYPE, headers={**extra, **(headers or {})}
    )


def declared(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route, so that every status stands in the OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Let every error of our own API leave as a problem.

    The handlers are coroutines, as the dependencies are: plain functions would be sent through a thread each.
    """
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(Exception, _mistake)


async def _app_error(_: Request, error: Exception) -> Response:
    kind = next((kind for kind in type(error).__mro__ if kind in STATUSES), None)
    if kind is None or not isinstance(error, AppError):
        return await _mistake(_, error)
    return problem(STATUSES[kind], str(error), headers=None, **_for_scripts(error))


def _for_scripts(error: AppError) -> dict[str, object]:
    """What an error says beside its text."""
    reason = str(error.code) if isinstance(error, CallFailed) else getattr(error, "reason", None)
    more: dict[str, object] = {} if reason is None else {"reason": reason}
    if isinstance(error, UnknownAudience | AmbiguousAudience):
        more["candidates"] = [{"id": one.id, "slug": one.slug, "name": one.name} for one in error.candidates]
    if isinstance(error, BadFields):
        more["errors"] = [{"at": "body.fields", "rule": rule} for rule in error.problems]
    if isinstance(error, Conflict) and error.choices is not None:
        more["choices"] = error.choices
    return more


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _mistake(_, error)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _bad_request(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _mistake(_, error)
    # The place and the rule, never the value.
    where = [{"at": ".".join(str(part) for part in e["loc"]), "rule": e["msg"]} for e in error.errors()]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not have the form this call needs.", errors=where)


async def _mistake(_: Request, error: Exception) -> JSONResponse | Response:
    log.error("unexpected error", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "This is a mistake of the service. Its log says more; please report it."
    )
