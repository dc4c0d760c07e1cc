"""TODO."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """How one batch moves an export's counts. `pending` may be negative; `members` counts who is wanted on the list;
    `told_after` counts what was told by how long that took, see `app.domain.freshness`.
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
