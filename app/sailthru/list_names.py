"""Names of Sailthru lists."""

import re

LONGEST_LIST_NAME = 120
_PREFIX = "Lytics "
# Control characters, line and paragraph separators, and surrogates, which can't be typed.
_UNTYPABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def list_name(audience_name: str) -> str:
    """Return the name of an audience's list: "Lytics " and the audience's name, as in Lytics' own Sailthru export.

    `$` is illegal in a list name and becomes `-`; control characters become spaces; spaces at the ends are dropped.
    The result is cut at 120 characters, because Sailthru does not publish its limit.
    https://getstarted.meetmarigold.com/engagebysailthru/Content/audience/managing-lists/natural-lists.html
    """
    return f"{_PREFIX}{_typable(audience_name).strip()}".replace("$", "-")[:LONGEST_LIST_NAME].rstrip()


def list_name_notes(audience_name: str) -> tuple[str, ...]:
    """Return one phrase for each change that `list_name` makes to the audience's name."""
    typable = _typable(audience_name)
    inner = typable.strip()
    room = LONGEST_LIST_NAME - len(_PREFIX)
    notes = {
        "spaces at the ends were dropped": inner != typable,
        "control characters became spaces": _UNTYPABLE.search(audience_name.strip()) is not None,
        "`$` is not allowed in a Sailthru list name and became `-`": "$" in inner[:room],
        f"cut at {LONGEST_LIST_NAME} characters": len(inner) > room,
    }
    return tuple(note for note, applies in notes.items() if applies)


def _typable(name: str) -> str:
    return _UNTYPABLE.sub(" ", name)
