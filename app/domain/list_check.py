"""The list check: detects a Sailthru list that was deleted, replaced, or changed by another tool."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

# Smaller changes are normal, such as a profile deleted or an address added by hand.
SMALLEST_JUMP = 10


class ListChange(StrEnum):
    """A change of a list: deleted, replaced by another list of the same name, or changed in size suddenly."""

    GONE = "gone"
    REPLACED = "replaced"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class ListSeen:
    """A list as Sailthru reports it."""

    list_id: str | None
    count: int | None


@dataclass(frozen=True, slots=True)
class ConfirmedCount:
    """Number of an export's members that are confirmed *in*, and of those whose confirmed state is unknown."""

    on_list: int = 0
    in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class KnownList:
    """The known state of a list.

    Args:
        confirmed: number of members that are confirmed *in*.
        in_doubt: number of members whose state is unknown or was confirmed during the check.
        others: number of other addresses on the list at the last check, plus or minus `others_in_doubt`; None before
            the first check.
    """

    list_id: str | None
    confirmed: int
    in_doubt: int
    others: int | None
    others_in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Result of a check.

    Args:
        change: the problem; None if there is none.
        others, others_in_doubt: values to store for the next check.
        jump: change in the number of other addresses since the last check.
    """

    change: ListChange | None
    others: int | None
    jump: int = 0
    others_in_doubt: int = 0


def judge(known: KnownList, seen: ListSeen | None) -> Judgement:
    """Compare a list in Sailthru with its known state.

    Other addresses may be on the list, so their number is compared with that of the last check. A change of more than
    1 % of the list and more than 10 addresses is reported; slower drift, such as deleted profiles, is accepted.
    The threshold grows by the number of unknown members at this check and at the last one.
    """
    unchanged = Judgement(None, known.others, others_in_doubt=known.others_in_doubt)
    if seen is None:
        return replace(unchanged, change=ListChange.GONE)
    if known.list_id is not None and seen.list_id is not None and seen.list_id != known.list_id:
        return replace(unchanged, change=ListChange.REPLACED)
    if seen.count is None:
        return unchanged
    others = seen.count - known.confirmed
    if known.others is None:
        return Judgement(None, others, others_in_doubt=known.in_doubt)
    jump = others - known.others
    allowed = max(0.01 * max(seen.count, known.confirmed), SMALLEST_JUMP)
    if abs(jump) > allowed + known.in_doubt + known.others_in_doubt:
        return replace(unchanged, change=ListChange.COUNT, jump=jump)
    narrowed, in_doubt = _narrowed(known, others)
    return Judgement(None, narrowed, jump, in_doubt)


def _narrowed(known: KnownList, others: int) -> tuple[int, int]:
    """Return the number of other addresses and its uncertainty.

    This check and the last one each give a range. The result is their intersection, or this check's range if they do
    not overlap.
    """
    least, most = others - known.in_doubt, others + known.in_doubt
    if known.others is not None:
        least_then, most_then = known.others - known.others_in_doubt, known.others + known.others_in_doubt
        if max(least, least_then) <= min(most, most_then):
            least, most = max(least, least_then), min(most, most_then)
    half = (most - least + 1) // 2
    return most - half, half


_HAPPENED: Mapping[ListChange, str] = {
    ListChange.GONE: "The list {name!r} is gone from Sailthru, so flows built on it have lost their entry.",
    ListChange.REPLACED: "Another list in Sailthru is now called {name!r}. The former one was deleted or renamed.",
    ListChange.COUNT: "The list {name!r} changed by {jump:+,} people within an hour, and not by this service.",
}
_NEXT_STEP: Mapping[ListChange, str] = {
    ListChange.GONE: "Changes are kept meanwhile. Check the flows, then resume: the list is made again, and each member"
    " joins it with the next change or with a backfill.",
    ListChange.REPLACED: "Changes are kept meanwhile. Give the right list its name back in Sailthru, or accept this"
    " one, then resume: each member is looked up before the next join.",
    ListChange.COUNT: "Changes are kept meanwhile. Find out in Sailthru who changed the list and correct it, or accept"
    " it, then resume.",
}


def reason(change: ListChange, list_name: str, export_id: int, jump: int = 0) -> str:
    """Return what happened and the next step, as text for operators."""
    happened = _HAPPENED[change].format(name=list_name, jump=jump)
    return f'{happened} {_NEXT_STEP[change]} PATCH /exports/{export_id} {{"state": "running"}}.'
