"""Values of profile fields as every database can hold and every call can say them.

A value that can't be stored would make Lytics send its webhook again and again, with all that came in the same request;
one that can't be sent would make a dead letter of a person over a field that hardly matters. So both are made safe
here, between the choice of the fields and the store.
"""

import re

# PostgreSQL's texts have no NUL, and UTF-8 has no half of a surrogate pair (an emoji that was cut in two).
# https://www.postgresql.org/docs/current/datatype-json.html, https://www.rfc-editor.org/rfc/rfc8259#section-8.2
_UNSAYABLE = re.compile("[\x00\ud800-\udfff]")
# What is larger is Infinity to those who read numbers as doubles, and Python writes no number of over 4,300 digits.
# NaN lies on neither side of anything, so it is not within the bounds either.
_TOO_LARGE = 10**308
_TOO_DEEP = 32


def sayable(value: object, depth: int = 0) -> object:
    """The value without what can't be stored or sent; None where nothing is left of it.

    Texts, names within objects too, lose NUL and halves of surrogate pairs. Numbers beyond the range of a double, and
    what lies 32 levels deep, become None. Integers within it stay exact, also those beyond 64 bits.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return value if -_TOO_LARGE < value < _TOO_LARGE else None
    if depth == _TOO_DEEP:
        return None
    if isinstance(value, list):
        return [sayable(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {_UNSAYABLE.sub("", name): sayable(one, depth + 1) for name, one in value.items()}
    return value


def _text(text: str) -> str | None:
    if _UNSAYABLE.search(text) is None:
        return text
    return _UNSAYABLE.sub("", text) or None
