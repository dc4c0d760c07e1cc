"""Audience: a group of people in Lytics (on its wire: a segment), which one an operator means, and the one place that
spells its Sailthru list.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from app.domain.errors import AmbiguousAudience, UnknownAudience

LONGEST_LIST_NAME = 120
NEAR_AUDIENCES = 5
_PREFIX = "Lytics "
# Controls, the separators of lines and paragraphs, and halves of surrogate pairs: nobody could type such a name.
_UNTYPABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Audience:
    """One audience as Lytics describes it. The id stays; slug and name are labels that people may change.

    Args:
        size: how many people are in it; None where Lytics was not asked or does not say.
    """

    id: str
    slug: str
    name: str
    size: int | None = None


def choose(wanted: str, audiences: Iterable[Audience]) -> Audience:
    """The audience that is meant: by its id, else its slug, else its name, else its name in any case and with space
    around it.

    Raises:
        AmbiguousAudience: several have just this slug or name; an id is never looked for among names.
        UnknownAudience: none has; with the nearest ones, by slug or name.
    """
    audiences = list(audiences)
    for is_meant in _rungs(wanted):
        found = [audience for audience in audiences if is_meant(audience)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousAudience(found)
    raise UnknownAudience(_nearest(wanted, audiences))


def list_name(audience_name: str) -> str:
    """The Sailthru list of an audience: "Lytics " and its name, as Lytics' own Sailthru export spells it.

    Made legal for Sailthru: `$` is not allowed in a list name and becomes `-`, control characters become spaces; no
    space at either end; cut at 120 characters, since Sailthru's own limit is not published.
    https://getstarted.meetmarigold.com/engagebysailthru/Content/audience/managing-lists/natural-lists.html
    """
    return f"{_PREFIX}{_typable(audience_name).strip()}".replace("$", "-")[:LONGEST_LIST_NAME].rstrip()


def list_name_notes(audience_name: str) -> tuple[str, ...]:
    """What `list_name` had to change in the name, in words; nothing where the list is called just like the audience."""
    typable = _typable(audience_name)
    inner = typable.strip()
    room = LONGEST_LIST_NAME - len(_PREFIX)
    notes = {
        "spaces at the ends were dropped": inner != typable,
        "control characters became spaces": _UNTYPABLE.search(audience_name.strip()) is not None,
        "`$` is not allowed in a Sailthru list name and became `-`": "$" in inner[:room],
        f"cut at {LONGEST_LIST_NAME} characters": len(inner) > room,
    }
    return tuple(note for note, is_so in notes.items() if is_so)


def _typable(name: str) -> str:
    return _UNTYPABLE.sub(" ", name)


def _rungs(wanted: str) -> Iterator[Callable[[Audience], bool]]:
    """What an audience can be meant by, the strictest first; nothing means none."""
    if not wanted.strip():
        return
    yield lambda audience: audience.id == wanted
    yield lambda audience: audience.slug == wanted
    yield lambda audience: audience.name == wanted
    yield lambda audience: _loosely(audience.name) == _loosely(wanted)


def _nearest(wanted: str, audiences: Iterable[Audience]) -> list[Audience]:
    by_label: defaultdict[str, dict[str, Audience]] = defaultdict(dict)
    for audience in audiences:
        for label in {_loosely(audience.name), _loosely(audience.slug)} - {""}:
            by_label[label][audience.id] = audience
    near = {
        audience.id: audience
        for label in get_close_matches(_loosely(wanted), by_label, 2 * NEAR_AUDIENCES)
        for audience in by_label[label].values()
    }
    return list(near.values())[:NEAR_AUDIENCES]


def _loosely(name: str) -> str:
    """The same for spellings that look the same: of case, of accents as one or two signs, of space around it."""
    return unicodedata.normalize("NFC", name.strip().casefold())
