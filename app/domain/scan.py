"""ScanPage: one page of the members of an audience, as Lytics returns it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ScanPage:
    """One page of a scan. Members who enter or leave during a scan shift its pages, so a row can repeat or be missed.

    Args:
        rows: profiles with those of the requested fields that they have. The address may be missing.
        next: cursor of the next page; None on the last one.
        total: size of the audience according to Lytics; None if it is not reported.
        answered_at: Lytics' clock; None if it is not reported.
        unreadable: number of rows that are not profiles. `rows` leaves them out.
    """

    rows: tuple[Mapping[str, object], ...]
    next: str | None
    total: int | None
    answered_at: datetime | None
    unreadable: int = 0
