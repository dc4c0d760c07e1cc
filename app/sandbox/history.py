"""What something was, for reads that lag behind."""

from datetime import datetime
from typing import Generic, TypeVar

State = TypeVar("State")


class History(Generic[State]):
    """The former states of one thing, as far back as somebody may still see them."""

    def __init__(self) -> None:
        self._past: list[tuple[datetime, State]] = []

    def changed(self, former: State, *, at: datetime, kept_since: datetime) -> None:
        """Notes that the thing was `former` until now, and forgets what ended by `kept_since`."""
        self._past = [(ended_at, state) for ended_at, state in self._past if ended_at > kept_since]
        self._past.append((at, former))

    def as_of(self, moment: datetime, *, present: State) -> State:
        """What the thing was at that moment, just after whatever happened to it then."""
        return next((state for ended_at, state in self._past if ended_at > moment), present)
