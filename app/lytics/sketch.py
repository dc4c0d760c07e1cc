"""What is kept of a body that was refused: enough to see what is wrong with it, and no value of a profile.

Of JSON, the names of fields with a word for each value, and as it is only what Lytics puts around a profile. Of
anything else the beginning, with letters and digits masked.
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

_Patterns = Mapping[str, re.Pattern[str]]
# What may stand as it is, as long as it looks like what it should be: a template may have put anything in its place.
_EVENT: _Patterns = {"id": _WORD, "slug": _WORD, "event": _KIND, "enter": _TIME, "exit": _TIME}
_META: _Patterns = {"object": _WORD, "subscription_id": _WORD, "source": _WORD, "timestamp": _TIME}
_TOP: _Patterns = {"id": _DIGITS}
_CLOUD_EVENT: _Patterns = {**_TOP, "specversion": _WORD, "source": _WORD, "type": _WORD, "time": _TIME}
_WORDS = {type(None): "(null)", bool: "(boolean)"}
_OURS = {*_EVENT, *_META, *_CLOUD_EVENT, "data", "meta", "segment_events"}

# A string with what makes it a name, a bracket, or what lies between them.
_TOKEN = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)(?P<end>"?)(?P<colon>\s*:)?|[\[\]{}]|[^"\[\]{}]+', re.DOTALL)


def sketch(body: bytes, items: Sequence[int | None] = (None,)) -> list[str]:
    """For each item of a refused body a text of at most 4,096 bytes of ASCII; never raises.

    Args:
        body: as received, whole.
        items: elements of an array by index; None for the body as it is.
    """
    try:
        document = parse_json(body)
    except ValueError:
        return [sketch_beginning(body)] * len(items)
    return [_cut(_sketch_item(document, item)) for item in items]


def sketch_beginning(body: bytes) -> str:
    """The beginning of what is no JSON, or not whole: its shape, and the names that look like those of fields."""
    text = body[: 2 * LONGEST_SKETCH_BYTES].decode("utf-8", "replace")
    return _cut("".join(_masked_tokens(text)))


def _sketch_item(document: object, item: int | None) -> str:
    if item is None:
        return json.dumps(_sketch_message(document))
    message = document[item] if isinstance(document, list) and item < len(document) else None
    return f"[{item}] {json.dumps(_sketch_message(message))}"


def _sketch_message(message: object) -> object:
    if not isinstance(message, dict):
        return _word_for(message)
    patterns = _CLOUD_EVENT if "specversion" in message else _TOP
    rest = {name: value for name, value in message.items() if name not in {*patterns, "meta", "data"}}
    parts = _shown(message, patterns)
    if "meta" in message:
        meta = message["meta"]
        parts["meta"] = _shown(meta, _META) | _words_for(meta, _META) if isinstance(meta, dict) else _word_for(meta)
    if "data" in message:
        parts["data"] = _sketch_profile(message["data"])
    return parts | _words_for(rest, ())


def _sketch_profile(data: object) -> object:
    """The events first, so that it is the names of the fields that are cut off where there is too much."""
    if not isinstance(data, dict):
        return _word_for(data)
    parts: dict[str, object] = {}
    if "segment_events" in data:
        events = data["segment_events"]
        parts["segment_events"] = _sketch_events(events) if isinstance(events, list) else _word_for(events)
    return parts | _words_for(data, ("segment_events",))


def _sketch_events(events: list[object]) -> list[object]:
    parts: list[object] = [
        _shown(event, _EVENT) | _words_for(event, _EVENT) if isinstance(event, dict) else _word_for(event)
        for event in events[:MOST_EVENTS]
    ]
    more = len(events) - MOST_EVENTS
    return [*parts, f"(and {more} more)"] if more > 0 else parts


def _shown(values: Mapping[str, object], patterns: _Patterns) -> dict[str, object]:
    return {name: _value(values[name], pattern) for name, pattern in patterns.items() if name in values}


def _value(value: object, pattern: re.Pattern[str]) -> object:
    if not isinstance(value, str) or not value:
        return _word_for(value)
    return value if pattern.fullmatch(value) else mask(value[:LONGEST_TEXT])


def _words_for(values: Mapping[str, object], but: Container[str]) -> dict[str, object]:
    """Every other field by its name, with a word in place of its value."""
    names = [name for name in values if name not in but]
    parts: dict[str, object] = {_name(name): _word_for(values[name]) for name in names[:MOST_NAMES]}
    return parts | ({"(more)": f"({len(names) - MOST_NAMES} more)"} if len(names) > MOST_NAMES else {})


def _name(name: str) -> str:
    # The names within a map may be anything, addresses too.
    return name if _NAME.fullmatch(name) else mask(name[:LONGEST_TEXT])


def _word_for(value: object) -> str:
    if isinstance(value, str):
        return "(string)" if value else "(empty string)"
    if isinstance(value, list | dict):
        return f"({'list' if isinstance(value, list) else 'object'} of {len(value)})"
    return _WORDS.get(type(value), "(number)")


def _masked_tokens(text: str) -> Iterator[str]:
    """A text piece by piece. Names deep inside may be those of a map, so only Lytics' own are kept there."""
    deepest_name = 3 if text.lstrip().startswith("[") else 2
    depth, before = 0, ""
    for token in _TOKEN.finditer(text):
        piece, name = token[0], token["text"]
        depth += piece.count("{") + piece.count("[") - piece.count("}") - piece.count("]") if name is None else 0
        # Where a comma became a colon, the value before it must not pass for a name.
        is_name = bool(token["colon"] and token["end"] and before.endswith(("{", ","))) and _NAME.fullmatch(name)
        yield f'"{name}":' if is_name and (depth <= deepest_name or name in _OURS) else mask(piece)
        before = piece.rstrip() or before


def mask(text: str) -> str:
    """A text with x for each letter and 9 for each digit, in ASCII; other signs of ASCII stay."""
    text = re.sub(r"[^\W\d_]", "x", text.replace("\ufffd", "?"))
    text = re.sub(r"[^!-~\s]", "", re.sub(r"\d", "9", text))
    return re.sub(r"\s+", " ", text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SKETCH_BYTES else f"{text[: LONGEST_SKETCH_BYTES - 3]}..."
