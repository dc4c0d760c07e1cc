"""ScanPage: some of the people who are in an audience, as a scan of Lytics shows them page by page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ScanPage:
    """One page. People who enter or leave meanwhile shift the pages behind it, so that a scan can miss or repeat some.

    Args:
        rows: profiles, only with the fields that were asked for and that the person has; maybe without an address.
        next: where the next page starts; None on the last one.
        total: of people in the whole audience, as Lytics counts them; None where it does not say.
        answered_at: by Lytics' clock; None where it does not say.
        unreadable: rows that are no profiles, and are left out of `rows`.
    """

    rows: tuple[Mapping[str, object], ...]
    next: str | None
    total: int | None
    answered_at: datetime | None
    unreadable: int = 0
