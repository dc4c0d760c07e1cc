"""Makes values of profile fields safe to store in every database and to send in every call.

A value that cannot be stored would make Lytics repeat its request endlessly. A value that cannot be sent would turn the
member into a dead letter. Values are therefore cleaned here before they are stored.
"""

import re

# PostgreSQL's texts have no NUL, and UTF-8 has no half surrogate pair (half an emoji).
# https://www.postgresql.org/docs/current/datatype-json.html, https://www.rfc-editor.org/rfc/rfc8259#section-8.2
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# A larger number is Infinity as a double, and Python writes no number of more than 4,300 digits. NaN compares as
# neither smaller nor larger, so it is out of bounds too.
_TOO_LARGE = 10**308
_TOO_DEEP = 32


def storable(value: object, depth: int = 0) -> object:
    """Return the value without what cannot be stored or sent; None if nothing is left.

    Texts and names in objects lose NUL and half surrogate pairs. Numbers beyond the range of a double become None, and
    so does everything nested 32 levels deep. Integers in that range stay exact, even beyond 64 bits.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return value if -_TOO_LARGE < value < _TOO_LARGE else None
    if depth == _TOO_DEEP:
        return None
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_UNSTORABLE.sub("", name): storable(item, depth + 1) for name, item in value.items()}
    return value


def _text(text: str) -> str | None:
    if _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub("", text) or None
