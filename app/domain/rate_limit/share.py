"""How replicas share the rate limit of one account: what a replica asks for, what it gets, what is left.

The store keeps one `Taken` per account and call. A replica sends a `ShareRequest`; `allocate` decides.
"""

from typing import NamedTuple

from app.domain.rate_limit.window import WINDOW_SECONDS

# Ends of windows that are further apart than this come from clocks that disagree.
_WRONG_CLOCK_SECONDS = 10 * WINDOW_SECONDS


class ShareRequest(NamedTuple):
    """What one replica asks of the shared limit.

    Args:
        window_ends: the end of the window that the request is for, as Sailthru reports it, in seconds since 1970;
            None before any answer reported one.
        allowed: calls that all replicas together may have made by now; None before a limit is known.
        calls: how many more calls the replica wants to make.
        returned: calls granted earlier that it will not make.
        backfills: its calls for backfills since its last request.
        carried_over: calls granted in another window that may count in this one, since its last request.
    """

    window_ends: int | None
    allowed: int | None
    calls: int
    returned: int
    backfills: int
    carried_over: int = 0


class ShareGrant(NamedTuple):
    """What the replica gets.

    Args:
        calls: how many calls it may make.
        taken: calls taken by all replicas in the window of the request, this grant included.
        backfills: those of them that were for backfills.
        newest_window: the end of the newest window that any replica knows.
    """

    calls: int
    taken: int
    backfills: int
    newest_window: int


class Taken(NamedTuple):
    """Calls taken by all replicas, in the newest window and in the one before."""

    window_ends: int = 0
    taken: int = 0
    backfills: int = 0
    taken_before: int = 0
    backfills_before: int = 0


def allocate(taken: Taken, request: ShareRequest) -> tuple[Taken, ShareGrant]:
    """Decide a request; returns the new state and the grant.

    A request for the window before the newest counts in that window. A request for an older one counts in the newest,
    because all replicas pay for it there. A request for a much older one shows that the newest end was wrong: it
    becomes the newest again.
    """
    taken = _at_window(taken, request.window_ends)
    is_before = request.window_ends == taken.window_ends - round(WINDOW_SECONDS)
    all_taken, backfills = (taken.taken_before, taken.backfills_before) if is_before else (taken.taken, taken.backfills)
    kept = max(0, all_taken - request.returned + request.carried_over)
    calls = request.calls if request.allowed is None else max(0, min(request.calls, request.allowed - kept))
    given = ShareGrant(calls, kept + calls, backfills + request.backfills, taken.window_ends)
    if is_before:
        return taken._replace(taken_before=given.taken, backfills_before=given.backfills), given
    return taken._replace(taken=given.taken, backfills=given.backfills), given


def _at_window(taken: Taken, window_ends: int | None) -> Taken:
    if window_ends is None:
        return taken
    if window_ends <= taken.window_ends - _WRONG_CLOCK_SECONDS:
        return Taken(window_ends, taken.taken, taken.backfills)
    if window_ends > taken.window_ends:
        is_next = window_ends - taken.window_ends <= WINDOW_SECONDS
        before = (taken.taken, taken.backfills) if is_next else (0, 0)
        return Taken(window_ends, 0, 0, *before)
    return taken
