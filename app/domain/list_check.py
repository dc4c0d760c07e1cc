"""The list watch: whether a list in Sailthru is still the one that is kept, or somebody changed it behind our back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

# A person put on a list by hand, a profile deleted: nobody needs to stop for that.
SMALLEST_JUMP = 10


class ListChange(StrEnum):
    """What happened to a list: it is gone; another one has its name; many people came or went at once."""

    GONE = "gone"
    REPLACED = "replaced"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class ListSeen:
    """A list as Sailthru shows it."""

    list_id: str | None
    count: int | None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """How many people Sailthru was last told to be on a list, and of how many that is not known."""

    on_list: int = 0
    in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What the list is known to hold.

    Args:
        told: the people of whom Sailthru was last told that they are on it.
        in_doubt: for how many more that is not known, or was told meanwhile.
        others: the people on it who are not held here, as last seen, give or take `others_in_doubt`; None before the
            first look.
    """

    list_id: str | None
    confirmed: int
    in_doubt: int
    others: int | None
    others_in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look found.

    Args:
        change: what is wrong, None for nothing.
        others, others_in_doubt: what to remember for the next look.
        jump: how many people more (or, below zero, less) than at the last look there are who are not held here.
    """

    change: ListChange | None
    others: int | None
    jump: int = 0
    others_in_doubt: int = 0


def judge(kept: Kept, seen: ListSeen | None) -> Judgement:
    """Compare a list with what is known of it.

    A list may hold people who were put on it otherwise, so what counts is how their number changes from one look to the
    next: by more than 1 % of the list, and more than ten people, is no accident. Slow drift (profiles that Sailthru
    deletes or merges) is followed. Where some people are in doubt, at this look or when the last one was, their number
    is known only about, and the next look allows for that as well.
    """
    as_it_was = Judgement(None, kept.others, others_in_doubt=kept.others_in_doubt)
    if seen is None:
        return replace(as_it_was, change=ListChange.GONE)
    if kept.list_id is not None and seen.list_id is not None and seen.list_id != kept.list_id:
        return replace(as_it_was, change=ListChange.REPLACED)
    if seen.count is None:
        return as_it_was
    others = seen.count - kept.confirmed
    if kept.others is None:
        return Judgement(None, others, others_in_doubt=kept.in_doubt)
    jump = others - kept.others
    allowed = max(0.01 * max(seen.count, kept.confirmed), SMALLEST_JUMP)
    if abs(jump) > allowed + kept.in_doubt + kept.others_in_doubt:
        return replace(as_it_was, change=ListChange.COUNT, jump=jump)
    known, in_doubt = _narrowed(kept, others)
    return Judgement(None, known, jump, in_doubt)


def _narrowed(kept: Kept, others: int) -> tuple[int, int]:
    """What is known of the others by this look and the last, and how much is in doubt: where both can be right, only
    what both allow; else what this one says.
    """
    least, most = others - kept.in_doubt, others + kept.in_doubt
    if kept.others is not None:
        least_then, most_then = kept.others - kept.others_in_doubt, kept.others + kept.others_in_doubt
        if max(least, least_then) <= min(most, most_then):
            least, most = max(least, least_then), min(most, most_then)
    half = (most - least + 1) // 2
    return most - half, half


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
    """What happened, and the way out, for people."""
    happened = _HAPPENED[change].format(name=list_name, jump=jump)
    return f'{happened} {_NEXT[change]} PATCH /exports/{export_id} {{"state": "running"}}.'
