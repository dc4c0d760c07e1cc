"""Values in the type that Lytics' schema names, so that a webhook and a scan, which write the same value differently,
yield the same vars: the v1 API writes scalars as texts, sets have no order, times have any number of digits.

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
    """The value as its type has it; as it is where the type is not known, or the value is not of it.

    Args:
        lytics_type: in Lytics' words, such as `int`, `[]string` or `map[string]int`.
    """
    name = lytics_type.strip().lower().removeprefix("ts")
    if name.startswith(_LIST):
        return _set_of(value, name.removeprefix(_LIST))
    inner = _MAP.fullmatch(name)
    if inner is not None:
        return {key: typed(one, inner[1]) for key, one in value.items()} if isinstance(value, dict) else value
    read = _SCALARS.get(name)
    return value if read is None else read(value)


def _set_of(value: object, inner: str) -> object:
    """Sets are written in one order, each element once."""
    if not isinstance(value, list):
        # A set of one may be written without its brackets.
        return value if value is None or isinstance(value, dict) else [typed(value, inner)]
    elements = [typed(one, inner) for one in value]
    if not all(isinstance(one, str | int | float) for one in elements):
        return elements
    return sorted(set(elements), key=lambda one: (isinstance(one, str), str(one)))


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
    """In UTC, to the second or, where there are parts of one, to the microsecond; a day stays a day."""
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
