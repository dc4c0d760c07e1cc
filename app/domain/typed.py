"""Converts values to the type that Lytics' schema names, so that a webhook and a scan yield the same vars.

Webhooks and the v1 API write the same value differently: v1 sends scalars as text, sets have no order, and times have
any number of digits.

https://docs.lytics.com/docs/field-types
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_TRUE, _FALSE = frozenset({"true", "t", "1"}), frozenset({"false", "f", "0"})
_LIST = "[]"
_MAP = re.compile(r"map\[string\](\w+)")


def typed(value: object, lytics_type: str) -> object:
    """Return the value, converted to a type. It is unchanged if the type is unknown or the value does not fit.

    Args:
        lytics_type: as Lytics names it, such as `int`, `[]string` or `map[string]int`.
    """
    name = lytics_type.strip().lower().removeprefix("ts")
    if name.startswith(_LIST):
        return _set_of(value, name.removeprefix(_LIST))
    inner = _MAP.fullmatch(name)
    if inner is not None:
        return {key: typed(item, inner[1]) for key, item in value.items()} if isinstance(value, dict) else value
    read = _SCALARS.get(name)
    return value if read is None else read(value)


def _set_of(value: object, inner: str) -> object:
    """Return the elements, sorted and without duplicates."""
    if not isinstance(value, list):
        # v1 may send a set of one element without its brackets.
        return value if value is None or isinstance(value, dict) else [typed(value, inner)]
    elements = [typed(element, inner) for element in value]
    if not all(isinstance(element, str | int | float) for element in elements):
        return elements
    return sorted(set(elements), key=lambda element: (isinstance(element, str), str(element)))


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def _integer(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else _number(value)
    return value


def _number(value: object) -> object:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _truth(value: object) -> object:
    if isinstance(value, int | str):
        word = str(value).strip().lower()
        return True if word in _TRUE else False if word in _FALSE else value
    return value


def _time(value: object) -> object:
    """Return the time in UTC, with microseconds only if there are any. A date without time is unchanged."""
    if not isinstance(value, str) or len(value) <= len("2026-01-05"):
        return value
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.strip()))
    except ValueError:
        return value
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat() + "Z"


_SCALARS: Mapping[str, Callable[[object], object]] = {
    "string": _text,
    "int": _integer,
    "number": _number,
    "float": _number,
    "bool": _truth,
    "date": _time,
    "time": _time,
    "datetime": _time,
}
