"""Converts Lytics' RFC 3339 times, with up to nine fractional digits, to nanoseconds since 1970 UTC.

Python's datetime keeps six digits, and a float of this size loses the last two.
"""

import re
from datetime import date
from functools import lru_cache

_PATTERN = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_DAY_SECONDS = 86_400
_SECOND_NS = 1_000_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_TOO_LATE_NS = (date(2251, 1, 1).toordinal() - _EPOCH_DAY) * _DAY_SECONDS * _SECOND_NS


def nanoseconds(text: str) -> int:
    """Return the exact time of an RFC 3339 text.

    Raises:
        ValueError: the text is not RFC 3339, or the time is outside 1970 to 2250. The message does not quote the text.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("This is not an RFC 3339 time.")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        seconds = _midnight(int(year), int(month), int(day)) + int(hour) * 3600 + int(minute) * 60 + int(second)
    except ValueError:
        raise ValueError("This date does not exist.") from None
    if sign:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    moment = seconds * _SECOND_NS + (int(fraction.ljust(9, "0")) if fraction else 0)
    if not 0 <= moment < _FIRST_TOO_LATE_NS:
        raise ValueError("This time is outside the years 1970 to 2250.")
    return moment


@lru_cache(maxsize=64)
def _midnight(year: int, month: int, day: int) -> int:
    return (date(year, month, day).toordinal() - _EPOCH_DAY) * _DAY_SECONDS
