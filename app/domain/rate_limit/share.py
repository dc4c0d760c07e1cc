"""TODO."""

from typing import NamedTuple

from app.domain.rate_limit.window import _WINDOW
from app.domain.retry import LONGEST_WINDOW

# Names of windows that are further apart than this are not of one clock.
_WRONG_NAME = 10 * _WINDOW


class ShareRequest(NamedTuple):
    """What one process asks of the budget that it shares with others.

    Args:
        window_ends: the window that is meant, by its name in seconds since 1970; None before any was told.
        most: calls that all together may have made by now; None before a limit is known.
        block: how many more are wanted.
        returned: of those taken earlier, how many are given back.
        backfills: own calls of backfills since the last wish.
        carried: own calls that were taken of another window and may count in this one, since the last wish.
    """

    window_ends: int | None
    most: int | None
    block: int
    returned: int
    backfills: int
    carried: int = 0


class ShareGrant(NamedTuple):
    """What it gets.

    Args:
        tokens: how many calls it may make.
        taken, backfills: of all processes in the window that was meant, with these.
        newest: the window that has begun last, as far as any of them knows.
    """

    tokens: int
    taken: int
    backfills: int
    newest: int


class Taken(NamedTuple):
    """What all processes together have taken, in a window and in the one before."""

    window_ends: int = 0
    taken: int = 0
    backfills: int = 0
    taken_before: int = 0
    backfills_before: int = 0


def grant(taken: Taken, wish: ShareRequest) -> tuple[Taken, ShareGrant]:
    """What a process gets of a shared budget, and what is taken of it then.

    Who is still in the window before counts there; a window further back is over, and what is asked of it goes into
    the newest, where it is paid for by all. One that is far back shows that the newest was named wrongly.
    """
    if wish.window_ends is not None and wish.window_ends <= taken.window_ends - _WRONG_NAME:
        taken = Taken(wish.window_ends, taken.taken, taken.backfills)
    if wish.window_ends is not None and wish.window_ends > taken.window_ends:
        is_next = wish.window_ends - taken.window_ends <= LONGEST_WINDOW.total_seconds()
        before = (taken.taken, taken.backfills) if is_next else (0, 0)
        taken = Taken(wish.window_ends, 0, 0, *before)
    is_before = wish.window_ends == taken.window_ends - round(_WINDOW)
    all_taken, backfills = (taken.taken_before, taken.backfills_before) if is_before else (taken.taken, taken.backfills)
    kept = max(0, all_taken - wish.returned + wish.carried)
    tokens = wish.block if wish.most is None else max(0, min(wish.block, wish.most - kept))
    now = ShareGrant(tokens, kept + tokens, backfills + wish.backfills, taken.window_ends)
    if is_before:
        return taken._replace(taken_before=now.taken, backfills_before=now.backfills), now
    return taken._replace(taken=now.taken, backfills=now.backfills), now
