"""The counts of an export, as a batch changes them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What one batch adds to the counts of an export; `pending`, `dead` and `members` may be negative.

    Args:
        members: memberships that are desired on the list.
        confirmed_after: number of confirmed changes by bucket of their duration, see `app.domain.freshness`.
    """

    accepted: int = 0
    delivered: int = 0
    superseded: int = 0
    pending: int = 0
    dead: int = 0
    erased: int = 0
    cancelled: int = 0
    stale: int = 0
    members: int = 0
    confirmed_after: Counter[int] = field(default_factory=Counter)
