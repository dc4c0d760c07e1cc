"""Sketches of rejected bodies: redacted outlines that show an operator what is wrong.

A sketch never holds a value of a profile. It is at most 4,096 bytes of printable ASCII. For example

    {"id": "15", "data": {"email": "ada@example.com", "city": ""}, "meta": {"timestamp": "2026-04-11T17:40:36Z"}}

becomes

    {"id": "15", "meta": {"timestamp": "2026-04-11T17:40:36Z"}, "data": {"email": "(string)", "city": "(empty string)"}}

- The fields around a profile (id, meta, the parts of an event) keep values that look as expected. A Lytics Template may
  put anything there, so other values are masked: letters become x and digits become 9.
- Every other field keeps its name, and a word such as `(string)` replaces its value. A name is masked if it does not
  look like the name of a field, because in a map it may be an address.
- A body that is incomplete or not JSON keeps its punctuation and the names of its fields. Everything else is masked.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence

from app.lytics.wire import parse_json

LONGEST_SKETCH_BYTES = 4096
LONGEST_TEXT = 64
MOST_NAMES = 200
MOST_EVENTS = 20

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.\-]{0,63}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.:/\-]{1,128}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)
_TIME = re.compile(r"[0-9TtZz:.+\- ]{1,40}", re.ASCII)
_KIND = re.compile(r"(enter|exit|change)", re.ASCII | re.IGNORECASE)

# The fields that keep their values, and the patterns that the values must match.
_Patterns = Mapping[str, re.Pattern[str]]
_EVENT: _Patterns = {"id": _WORD, "slug": _WORD, "event": _KIND, "enter": _TIME, "exit": _TIME}
_META: _Patterns = {"object": _WORD, "subscription_id": _WORD, "source": _WORD, "timestamp": _TIME}
_MESSAGE: _Patterns = {"id": _DIGITS}
_CLOUD_EVENT: _Patterns = {**_MESSAGE, "specversion": _WORD, "source": _WORD, "type": _WORD, "time": _TIME}
_LYTICS_NAMES = {*_EVENT, *_META, *_CLOUD_EVENT, "data", "meta", "segment_events"}

# A string (with its colon if it is a name), a bracket, or the text between them.
_TOKEN = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)(?P<end>"?)(?P<colon>\s*:)?|[\[\]{}]|[^"\[\]{}]+', re.DOTALL)


def sketch(body: bytes, items: Sequence[int | None] = (None,)) -> list[str]:
    """Return a sketch of each item of a rejected body. Never raises.

    Args:
        body: as received, complete.
        items: indexes of messages in the array; None for the whole body.
    """
    try:
        document = parse_json(body)
    except ValueError:
        return [sketch_beginning(body)] * len(items)
    return [_shortened(_sketch_item(document, item)) for item in items]


def sketch_beginning(body: bytes) -> str:
    """Return a sketch of a body that is not JSON or not complete. Only its first 8,192 bytes are used."""
    text = body[: 2 * LONGEST_SKETCH_BYTES].decode("utf-8", "replace")
    return _shortened("".join(_masked_tokens(text)))


def mask(text: str) -> str:
    """Return the text with x for each letter and 9 for each digit. Of the other characters only ASCII stays."""
    text = re.sub(r"[^\W\d_]", "x", text.replace("\ufffd", "?"))
    text = re.sub(r"[^!-~\s]", "", re.sub(r"\d", "9", text))
    return re.sub(r"\s+", " ", text)


def _sketch_item(document: object, item: int | None) -> str:
    if item is None:
        return json.dumps(_sketch_message(document))
    message = document[item] if isinstance(document, list) and item < len(document) else None
    return f"[{item}] {json.dumps(_sketch_message(message))}"


def _sketch_message(message: object) -> object:
    if not isinstance(message, dict):
        return _placeholder(message)
    patterns = _CLOUD_EVENT if "specversion" in message else _MESSAGE
    parts = _kept_values(message, patterns)
    if "meta" in message:
        parts["meta"] = _sketch_object(message["meta"], _META)
    if "data" in message:
        parts["data"] = _sketch_profile(message["data"])
    return parts | _placeholders(message, {*patterns, "meta", "data"})


def _sketch_profile(data: object) -> object:
    """Return the profile with its events first: a long sketch is cut off at the end."""
    if not isinstance(data, dict):
        return _placeholder(data)
    parts: dict[str, object] = {}
    if "segment_events" in data:
        events = data["segment_events"]
        parts["segment_events"] = _sketch_events(events) if isinstance(events, list) else _placeholder(events)
    return parts | _placeholders(data, ("segment_events",))


def _sketch_events(events: list[object]) -> list[object]:
    parts = [_sketch_object(event, _EVENT) for event in events[:MOST_EVENTS]]
    more = len(events) - MOST_EVENTS
    return [*parts, f"(and {more} more)"] if more > 0 else parts


def _sketch_object(value: object, patterns: _Patterns) -> object:
    if not isinstance(value, dict):
        return _placeholder(value)
    return _kept_values(value, patterns) | _placeholders(value, patterns)


def _kept_values(values: Mapping[str, object], patterns: _Patterns) -> dict[str, object]:
    return {name: _kept_value(values[name], pattern) for name, pattern in patterns.items() if name in values}


def _kept_value(value: object, pattern: re.Pattern[str]) -> object:
    if not isinstance(value, str) or not value:
        return _placeholder(value)
    return value if pattern.fullmatch(value) else mask(value[:LONGEST_TEXT])


def _placeholders(values: Mapping[str, object], except_for: Container[str]) -> dict[str, object]:
    """Return the other fields by name, with a word in place of each value."""
    names = [name for name in values if name not in except_for]
    parts: dict[str, object] = {_name(name): _placeholder(values[name]) for name in names[:MOST_NAMES]}
    return parts | ({"(more)": f"({len(names) - MOST_NAMES} more)"} if len(names) > MOST_NAMES else {})


def _name(name: str) -> str:
    return name if _NAME.fullmatch(name) else mask(name[:LONGEST_TEXT])


def _placeholder(value: object) -> str:
    match value:
        case None:
            return "(null)"
        case bool():
            return "(boolean)"
        case str():
            return "(string)" if value else "(empty string)"
        case list():
            return f"(list of {len(value)})"
        case dict():
            return f"(object of {len(value)})"
        case _:
            return "(number)"


def _masked_tokens(text: str) -> Iterator[str]:
    """Yield a text piece by piece. Everything but the names of fields is masked.

    At deeper levels a name may be a key of a map, such as an address. There only Lytics' own names stay.
    """
    deepest_name = 3 if text.lstrip().startswith("[") else 2
    depth, before = 0, ""
    for token in _TOKEN.finditer(text):
        piece, name = token[0], token["text"]
        depth += piece.count("{") + piece.count("[") - piece.count("}") - piece.count("]") if name is None else 0
        # A string is a name only after a bracket or a comma, even if a colon follows it.
        is_name = bool(token["colon"] and token["end"] and before.endswith(("{", ","))) and _NAME.fullmatch(name)
        yield f'"{name}":' if is_name and (depth <= deepest_name or name in _LYTICS_NAMES) else mask(piece)
        before = piece.rstrip() or before


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SKETCH_BYTES else f"{text[: LONGEST_SKETCH_BYTES - 3]}..."
