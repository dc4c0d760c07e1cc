"""
The list watch: whether a list in Sailthru is still the one that is kept, or somebody changed it behind our back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# A person put on a list by hand, a profile deleted: nobody needs to stop for that.
SMALLEST_JUMP = 10


class ListChange(StrEnum):
    """
    What happened to a list: it is gone; another one has its name; many people came or went at once.
    """

    GONE = "gone"
    REPLACED = "replaced"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class ListSeen:
    """
    A list as Sailthru shows it.
    """

    list_id: str | None
    count: int | None


@dataclass(frozen=True, slots=True)
class Told:
    """
    How many people Sailthru was last told to be on a list, and of how many that is not known.
    """

    on_list: int = 0
    in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """
    What the list is known to hold.

    Args:
        told: the people of whom Sailthru was last told that they are on it.
        in_doubt: for how many more that is not known, or was told meanwhile.
        others: the people on it who are not held here, as last seen; None before the first look.
    """

    list_id: str | None
    told: int
    in_doubt: int
    others: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    What a look found.

    Args:
        change: what is wrong, None for nothing.
        others: what to remember for the next look.
        jump: how many people more (or, below zero, less) than at the last look there are who are not held here.
    """

    change: ListChange | None
    others: int | None
    jump: int = 0


def judge(kept: Kept, seen: ListSeen | None) -> Judgement:
    """
    Compare a list with what is known of it.

    A list may hold people who were put on it otherwise, so what counts is how their number changes from one look to the
    next: by more than 1 % of the list, and more than ten people, is no accident. Slow drift (profiles that Sailthru
    deletes or merges) is followed.
    """
    if seen is None:
        return Judgement(ListChange.GONE, kept.others)
    if kept.list_id is not None and seen.list_id is not None and seen.list_id != kept.list_id:
        return Judgement(ListChange.REPLACED, kept.others)
    if seen.count is None:
        return Judgement(None, kept.others)
    others = seen.count - kept.told
    if kept.others is None:
        return Judgement(None, others)
    jump = others - kept.others
    allowed = max(0.01 * max(seen.count, kept.told), SMALLEST_JUMP) + kept.in_doubt
    return Judgement(ListChange.COUNT, kept.others, jump) if abs(jump) > allowed else Judgement(None, others, jump)


_HAPPENED: Mapping[ListChange, str] = {
    ListChange.GONE: "The list {name!r} is gone from Sailthru, and flows built on it have lost their entry.",
    ListChange.REPLACED: "Another list is called {name!r} in Sailthru now: the one that was kept is gone or renamed.",
    ListChange.COUNT: "The list {name!r} has {jump:+,} people within an hour who were not told from here.",
}
_NEXT: Mapping[ListChange, str] = {
    ListChange.GONE: "Changes are kept meanwhile. Resume to have the list made again: who was on it is then not known"
    " to be on it any more, and comes back with their next change or with a backfill. Check the flows.",
    ListChange.REPLACED: "Changes are kept meanwhile. Give the right list its name back in Sailthru, or leave this one;"
    " then resume: who is on it is asked again, person by person, before anybody is put on it.",
    ListChange.COUNT: "Changes are kept meanwhile. Find out in Sailthru who changed it and put it right, or leave it"
    " as it is; then resume.",
}


def reason(change: ListChange, list_name: str, export_id: int, jump: int = 0) -> str:
    """
    What happened, and the way out, for people.
    """
    happened = _HAPPENED[change].format(name=list_name, jump=jump)
    return f'{happened} {_NEXT[change]} PATCH /exports/{export_id} {{"state": "running"}}.'
