"""Errors as problem details: each error has a status and a text that says what to do.

https://www.rfc-editor.org/rfc/rfc9457
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
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
    # A vendor failed, not this service. The text says what an operator must correct.
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
            "description": "A fixed word for scripts. If a call to Lytics failed, its error code. Not always present.",
        },
        "errors": {
            "type": "array",
            "description": "Each invalid part of the request: where it is, and which rule it breaks.",
            "items": {"type": "object", "properties": {"at": {"type": "string"}, "rule": {"type": "string"}}},
        },
        "candidates": {
            "type": "array",
            "description": "The audiences that the request may mean.",
            "items": {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "slug", "name")}},
        },
        "choices": {
            "type": "object",
            "description": "Parameters that would make the request fit, with their values; null means any value.",
        },
    },
}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """Return a problem answer. A 503 asks the client to retry after half a minute."""
    all_headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        all_headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Response(json.dumps(body).encode(), status, media_type=MEDIA_TYPE, headers=all_headers)


def declared(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the `responses` of a route, so that the OpenAPI description lists each problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Turn every error of the API into a problem."""
    # All handlers are coroutines, because FastAPI runs plain functions in a thread.
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected)


async def _app_error(request: Request, error: Exception) -> Response:
    kind = next((kind for kind in type(error).__mro__ if kind in STATUSES), None)
    if kind is None or not isinstance(error, AppError):
        return await _unexpected(request, error)
    return problem(STATUSES[kind], str(error), headers=None, **_for_scripts(error))


def _for_scripts(error: AppError) -> dict[str, object]:
    reason = str(error.code) if isinstance(error, CallFailed) else getattr(error, "reason", None)
    more: dict[str, object] = {} if reason is None else {"reason": reason}
    if isinstance(error, UnknownAudience | AmbiguousAudience):
        more["candidates"] = [{"id": one.id, "slug": one.slug, "name": one.name} for one in error.candidates]
    if isinstance(error, BadFields):
        more["errors"] = [{"at": "body.fields", "rule": rule} for rule in error.problems]
    if isinstance(error, Conflict) and error.choices is not None:
        more["choices"] = error.choices
    return more


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _unexpected(request, error)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _unexpected(request, error)
    # The place and the rule, but never the value, which may be personal.
    errors = [{"at": ".".join(str(part) for part in e["loc"]), "rule": e["msg"]} for e in error.errors()]
    detail = "The request is not valid for this call. Correct the parts that `errors` lists."
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "This is a bug in the service. Its log has the details. Please report it.",
    )
