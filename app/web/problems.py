"""Problem details: the API's answers to errors, each with a status and a text that names the remedy.

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
    # A call to a vendor failed. The text names the correction that an operator can make.
    CallFailed: HTTPStatus.SERVICE_UNAVAILABLE,
}

SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The problem, its cause and the next step."},
        "reason": {
            "type": "string",
            "description": "A constant word for scripts, or the error code of a failed call to Lytics. Optional.",
        },
        "errors": {
            "type": "array",
            "description": "Each invalid part of the request: its place and the rule that it breaks.",
            "items": {"type": "object", "properties": {"at": {"type": "string"}, "rule": {"type": "string"}}},
        },
        "candidates": {
            "type": "array",
            "description": "The audiences that the request may mean.",
            "items": {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "slug", "name")}},
        },
        "choices": {
            "type": "object",
            "description": "Parameters that would resolve the conflict, with their values; null means any value.",
        },
    },
}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """Return an answer with problem details. A 503 asks the client to retry after 30 seconds."""
    all_headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        all_headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Response(json.dumps(body).encode(), status, media_type=MEDIA_TYPE, headers=all_headers)


def declared(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the `responses` of a route for the OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Answer every error of the API with problem details."""
    # All handlers are coroutines, because FastAPI runs plain functions in a thread.
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected)


async def _app_error(request: Request, error: Exception) -> Response:
    known = next((base for base in type(error).__mro__ if base in STATUSES), None)
    if known is None or not isinstance(error, AppError):
        return await _unexpected(request, error)
    return problem(STATUSES[known], str(error), headers=None, **_extensions(error))


def _extensions(error: AppError) -> dict[str, object]:
    reason = str(error.code) if isinstance(error, CallFailed) else getattr(error, "reason", None)
    extensions: dict[str, object] = {} if reason is None else {"reason": reason}
    if isinstance(error, UnknownAudience | AmbiguousAudience):
        extensions["candidates"] = [
            {"id": audience.id, "slug": audience.slug, "name": audience.name} for audience in error.candidates
        ]
    if isinstance(error, BadFields):
        extensions["errors"] = [{"at": "body.fields", "rule": rule} for rule in error.problems]
    if isinstance(error, Conflict) and error.choices is not None:
        extensions["choices"] = error.choices
    return extensions


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _unexpected(request, error)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return await _unexpected(request, error)
    # Leave out the invalid value, because it may be personal data.
    errors = [{"at": ".".join(str(part) for part in e["loc"]), "rule": e["msg"]} for e in error.errors()]
    detail = "The request is not valid for this call. Correct the parts that `errors` lists."
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "This is a bug in the service. Its log has the details. Please report it.",
    )
