"""How replicas share the rate limit of one account: requests, grants, and the calls taken so far.

The store holds one `Taken` for each account and endpoint. A replica sends a `ShareRequest`, and `allocate` answers it.
"""

from typing import NamedTuple

from app.domain.rate_limit.window import WINDOW_SECONDS

# Ends of windows that are further apart than this come from clocks that disagree.
_WRONG_CLOCK_SECONDS = 10 * WINDOW_SECONDS


class ShareRequest(NamedTuple):
    """A request of one replica to the shared limit.

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
    """The answer to a request.

    Args:
        calls: how many calls the replica may make.
        taken: calls taken by all replicas in the window of the request, this grant included.
        backfills: the part of `taken` that was for backfills.
        newest_window: the end of the newest window that any replica knows.
    """

    calls: int
    taken: int
    backfills: int
    newest_window: int


class Taken(NamedTuple):
    """Calls taken by all replicas, in the newest window and in the previous one."""

    window_ends: int = 0
    taken: int = 0
    backfills: int = 0
    taken_before: int = 0
    backfills_before: int = 0


def allocate(taken: Taken, request: ShareRequest) -> tuple[Taken, ShareGrant]:
    """Return the new state and the grant for a request.

    A request for the previous window counts there. A request for an older window counts in the newest one, so that its
    calls are not lost. A request for a much older window shows that the newest end came from a wrong clock, so the
    requested window becomes the newest.
    """
    taken = _at_window(taken, request.window_ends)
    is_previous = request.window_ends == taken.window_ends - round(WINDOW_SECONDS)
    all_taken, backfills = (
        (taken.taken_before, taken.backfills_before) if is_previous else (taken.taken, taken.backfills)
    )
    counted = max(0, all_taken - request.returned + request.carried_over)
    calls = request.calls if request.allowed is None else max(0, min(request.calls, request.allowed - counted))
    grant = ShareGrant(calls, counted + calls, backfills + request.backfills, taken.window_ends)
    if is_previous:
        return taken._replace(taken_before=grant.taken, backfills_before=grant.backfills), grant
    return taken._replace(taken=grant.taken, backfills=grant.backfills), grant


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
