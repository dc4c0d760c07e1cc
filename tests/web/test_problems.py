"""Problem details: the status, text and extension members of each error."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.domain.audience import Audience
from app.domain.errors import (
    AmbiguousAudience,
    AppError,
    BadFields,
    BadSettings,
    Conflict,
    CredentialsRefused,
    LimitReached,
    NoLyticsToken,
    NotFound,
    StoreUnavailable,
    Transient,
    UnknownAudience,
)
from app.web import problems

VIP = Audience("1", "vip", "VIP", 7)
SHOWN = {"id": "1", "slug": "vip", "name": "VIP"}


@pytest.mark.parametrize(
    ("error", "status", "more"),
    [
        (NotFound("There is none."), 404, {}),
        (Conflict("It does not fit."), 409, {}),
        (StoreUnavailable("Not now."), 503, {}),
        (NoLyticsToken(), 409, {"reason": "no_lytics_token"}),
        (UnknownAudience([VIP]), 404, {"reason": "unknown_audience", "candidates": [SHOWN]}),
        (UnknownAudience(), 404, {"reason": "unknown_audience", "candidates": []}),
        (AmbiguousAudience([VIP, VIP]), 409, {"reason": "ambiguous_audience", "candidates": [SHOWN, SHOWN]}),
        (
            BadFields(["One is bad.", "Two is."]),
            422,
            {
                "reason": "bad_fields",
                "errors": [{"at": "body.fields", "rule": "One is bad."}, {"at": "body.fields", "rule": "Two is."}],
            },
        ),
        (Transient("timeout", "Lytics did not answer."), 503, {"reason": "timeout"}),
        (LimitReached(429, "Lytics limits the calls."), 503, {"reason": "429"}),
        (CredentialsRefused("expired_token", "Make a new one."), 503, {"reason": "expired_token"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AppError) else "",
)
async def test_error_becomes_a_problem(error: AppError, status: int, more: dict[str, Any]) -> None:
    """Only a 503 has Retry-After."""
    answer = await answer_to(error)

    assert answer.status_code == status
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    assert ("Retry-After" in answer.headers) is (status == 503)
    assert {name: value for name, value in answer.json().items() if name not in {"title", "status"}} == {
        "detail": str(error),
        **more,
    }


async def test_error_without_a_status_answers_500_and_its_text_is_only_logged() -> None:
    with capture_logs():
        answer = await answer_to(BadSettings("A setting is wrong."))

    assert answer.status_code == 500
    assert "setting" not in answer.text


async def answer_to(error: AppError) -> httpx.Response:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as http:
        return await http.get("/")
