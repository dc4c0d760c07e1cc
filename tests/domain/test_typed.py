"""Values from webhooks and scans are converted to the type of the schema."""

import pytest

from app.domain.typed import typed


@pytest.mark.parametrize(
    ("lytics_type", "webhook", "scan", "value"),
    [
        ("int", 214, "214", 214),
        ("int", 214.0, " -3 ", None),
        ("number", 1.5, "1.5", 1.5),
        ("number", 2, "2.0", 2),
        ("float", 0.1, "0.1", 0.1),
        ("bool", True, "true", True),
        ("bool", False, "f", False),
        ("bool", True, "t", True),
        ("string", "t", "t", "t"),
        ("string", "00123", "00123", "00123"),
        ("string", 7, "7", "7"),
        ("date", "2026-01-05T12:00:00.000Z", "2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("time", "2026-01-05T12:00:00.123456789Z", "2026-01-05T12:00:00.123456Z", "2026-01-05T12:00:00.123456Z"),
        ("datetime", "2026-01-05T14:00:00+02:00", "2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("date", "2026-01-05", "2026-01-05", "2026-01-05"),
        ("[]string", ["b", "a"], ["a", "b", "a"], ["a", "b"]),
        ("[]string", ["a"], "a", ["a"]),
        ("ts[]string", ["b", "a"], ["a", "b"], ["a", "b"]),
        ("[]time", ["2026-01-05T12:00:00Z"], ["2026-01-05T12:00:00.000Z"], ["2026-01-05T12:00:00Z"]),
        ("map[string]int", {"15": 1}, {"15": "1"}, {"15": 1}),
        ("map[string]bool", {"x": True}, {"x": "t"}, {"x": True}),
        ("INT", 1, "1", 1),
    ],
)
def test_webhook_and_scan_yield_the_same_value(lytics_type: str, webhook: object, scan: object, value: object) -> None:
    found = [typed(sent, lytics_type) for sent in (webhook, scan)]
    if value is None:
        assert found == [214, -3]
    else:
        assert found == [value, value]
        assert [type(value_found) for value_found in found] == [type(value)] * 2


@pytest.mark.parametrize(
    ("lytics_type", "value"),
    [
        ("int", "many"),
        ("int", None),
        ("number", "nan?"),
        ("bool", "perhaps"),
        ("bool", 7),
        ("date", "yesterday"),
        ("date", 20260105),
        ("map[string]int", "text"),
        ("[]string", None),
        ("[]string", {"a": 1}),
        ("geolocation", "1,2"),
        ("", "anything"),
        ("string", ["a"]),
    ],
)
def test_value_that_does_not_fit_its_type_stays(lytics_type: str, value: object) -> None:
    assert typed(value, lytics_type) == value


def test_set_of_objects_keeps_its_order() -> None:
    assert typed([{"a": 1}, None], "[]value") == [{"a": 1}, None]
