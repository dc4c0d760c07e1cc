"""Audience: a group of people in Lytics (a "segment" on its wire), and how an operator names one."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from app.domain.errors import AmbiguousAudience, UnknownAudience

SIMILAR_AUDIENCES = 5


@dataclass(frozen=True, slots=True)
class Audience:
    """One audience as Lytics describes it. The id is permanent; slug and name can change.

    Args:
        size: number of members; None if it was not requested or Lytics does not report it.
    """

    id: str
    slug: str
    name: str
    size: int | None = None


def choose(reference: str, audiences: Iterable[Audience]) -> Audience:
    """Return the audience that a reference names.

    Matches are tried in this order: id, slug, name, and name without regard to case and outer space.

    Raises:
        AmbiguousAudience: several audiences match equally well.
        UnknownAudience: no audience matches. The error lists the most similar ones.
    """
    audiences = list(audiences)
    for matches in _matchers(reference):
        found = [audience for audience in audiences if matches(audience)]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousAudience(found)
    raise UnknownAudience(_most_similar(reference, audiences))


def _matchers(reference: str) -> Iterator[Callable[[Audience], bool]]:
    """Yield one condition for each level, the strictest first. An empty reference matches nothing."""
    if not reference.strip():
        return
    yield lambda audience: audience.id == reference
    yield lambda audience: audience.slug == reference
    yield lambda audience: audience.name == reference
    yield lambda audience: _normalized(audience.name) == _normalized(reference)


def _most_similar(reference: str, audiences: Iterable[Audience]) -> list[Audience]:
    by_label: defaultdict[str, dict[str, Audience]] = defaultdict(dict)
    for audience in audiences:
        for label in {_normalized(audience.name), _normalized(audience.slug)} - {""}:
            by_label[label][audience.id] = audience
    similar = {
        audience.id: audience
        for label in get_close_matches(_normalized(reference), by_label, 2 * SIMILAR_AUDIENCES)
        for audience in by_label[label].values()
    }
    return list(similar.values())[:SIMILAR_AUDIENCES]


def _normalized(name: str) -> str:
    """Return one spelling for names that differ only in case, outer space, or composed and decomposed accents."""
    return unicodedata.normalize("NFC", name.strip().casefold())
