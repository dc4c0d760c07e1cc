"""Webhook bodies have the documented form."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.lytics.audiences import Audience
from app.sandbox.lytics.webhooks import Moment, change, enter, exit_, timestamp

FIXTURES = Path(__file__).parents[2] / "fixtures/lytics/composed"
USER = "15000000000000000001"
ADA = "ada.sample@example.com"


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def nanoseconds(text: str, nanoseconds: int) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000 + nanoseconds


def test_enter_is_as_documented() -> None:
    """The body has the chosen fields, and times have nine digits after the second."""
    body = enter(
        ADA,
        at=nanoseconds("2026-04-11T17:40:35Z", 104772310),
        sent_at=nanoseconds("2026-04-11T17:40:36Z", 220144871),
        user_id=USER,
        fields={"first_name": "Ada"},
    )

    assert body == fixture("webhook_enter_selected_fields")


def test_exit_is_as_documented() -> None:
    """Only trailing zeros of times differ."""
    expected = fixture("webhook_exit_selected_fields")
    expected["data"]["segment_events"][0]["exit"] = "2026-04-20T08:01:12.000451000Z"
    body = exit_(
        ADA,
        at=nanoseconds("2026-04-20T08:01:12Z", 451000),
        sent_at=nanoseconds("2026-04-20T08:01:13Z", 559102348),
        user_id=USER,
        fields={"first_name": "Ada"},
    )

    assert body == expected


def test_change_is_as_documented() -> None:
    """Only the message has a time."""
    body = change(
        ADA,
        sent_at=nanoseconds("2026-04-12T10:00:00Z", 118276005),
        user_id=USER,
        fields={"first_name": "Adah", "city": "Sampleton"},
    )

    assert body == fixture("webhook_field_change")


def test_defaults() -> None:
    """The message is one second later than the event. The id is derived from the address, if there is one."""
    noon = datetime(2026, 4, 11, 12, tzinfo=UTC)
    audience = Audience("abc", "Autumn", "autumn")
    entered: Any = enter(ADA, audience, at=noon)
    same: Any = exit_(ADA.upper(), audience, at=noon)
    without_address: Any = enter(None, audience, at=noon)

    assert entered["id"] == same["id"] != without_address["id"]
    assert entered["id"].isdigit()
    assert entered["meta"]["timestamp"] == "2026-04-11T12:00:01.000000000Z"
    assert entered["data"]["segment_events"] == [
        {"id": "abc", "event": "enter", "slug": "autumn", "enter": "2026-04-11T12:00:00.000000000Z"}
    ]
    assert "email" not in without_address["data"]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "2026-01-01T00:00:00.000001000Z"),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T22:00:00.000000000Z"),
    ],
)
def test_times_have_nine_digits(moment: Moment, text: str) -> None:
    assert timestamp(moment) == text
