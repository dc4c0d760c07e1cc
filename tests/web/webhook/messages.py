"""Webhook bodies and receipts for the tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.sandbox.lytics import webhooks

ADA = "ada@example.com"
NOW = datetime.now(UTC)


def at(seconds: float) -> datetime:
    return NOW - timedelta(hours=1) + timedelta(seconds=seconds)


def enter(email: str | None = ADA, seconds: float = 0, **more: Any) -> dict[str, Any]:
    return webhooks.enter(email, at=at(seconds), **more)


def counts(accepted: int = 0, ignored: int = 0, rejected: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "ignored": ignored, "rejected": rejected}


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return body


def with_event(**different: object) -> dict[str, Any]:
    body = enter()
    body["data"]["segment_events"][0] |= different
    return body
