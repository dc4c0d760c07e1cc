"""Exact times, compared with an independent computation."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lytics.timestamps import nanoseconds

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2250, 12, 30))  # noqa: DTZ001 - the offset is drawn separately
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2026-04-11T17:40:35Z", 1775929235 * SECOND),
        ("2026-04-11T17:40:35.1Z", 1775929235 * SECOND + 100_000_000),
        ("2026-04-11T17:40:35.104772310Z", 1775929235 * SECOND + 104_772_310),
        ("2026-04-11T10:40:35.104772310-07:00", 1775929235 * SECOND + 104_772_310),
        ("2026-04-11T23:10:35+05:30", 1775929235 * SECOND),
        ("2026-04-11t17:40:35z", 1775929235 * SECOND),
        ("2024-02-29T00:00:00-00:00", 1709164800 * SECOND),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2250-12-31T23:59:59.999999999Z", 8_867_491_199_999_999_999),
        ("2251-01-01T00:59:59.999999999+01:00", 8_867_491_199_999_999_999),
    ],
)
def test_time_is_read_exactly(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1775929235",
        "2026-04-11",
        "2026-04-11T17:40:35",
        "2026-04-11 17:40:35Z",
        "2026-04-11T17:40Z",
        "2026-04-11T17:40:35.Z",
        "2026-04-11T17:40:35.1234567890Z",
        "2026-04-11T17:40:35,5Z",
        "2026-04-11T24:00:00Z",
        "2026-04-11T17:60:00Z",
        "2026-04-11T17:40:60Z",
        "2026-04-11T17:40:35+24:00",
        "2026-04-11T17:40:35+05:60",
        "2026-04-11T17:40:35+0530",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:59:59+01:00",
        "2251-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        " 2026-04-11T17:40:35Z",
        "2026-04-11T17:40:35Z\n",
        "\u0662\u0660\u0662\u0666-04-11T17:40:35Z",
    ],
)
def test_other_text_or_year_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|1970 to 2250|not exist") as caught:
        nanoseconds(text)

    assert text not in str(caught.value) or not text


@given(MOMENTS, OFFSETS, st.integers(0, 9), st.integers(0, SECOND - 1))
def test_all_spellings_of_a_moment_are_equal(moment: datetime, offset_minutes: int, digits: int, nanos: int) -> None:
    local = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset_minutes)))
    fraction = f"{nanos:09}"[:digits]
    text = local.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "")
    text += f"{'-' if offset_minutes < 0 else '+'}{abs(offset_minutes) // 60:02}:{abs(offset_minutes) % 60:02}"

    whole = Fraction((local - EPOCH) // timedelta(seconds=1))
    expected = (whole + Fraction(f"0.{fraction or 0}")) * SECOND

    assert nanoseconds(text) == expected


@given(st.text(alphabet="0123456789-:.+TZtz ", max_size=40))
def test_any_text_is_time_or_value_error(text: str) -> None:
    try:
        moment = nanoseconds(text)
    except ValueError:
        return
    assert 0 <= moment < 2**63
