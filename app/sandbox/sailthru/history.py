"""Records former states for stale reads."""

from datetime import datetime
from typing import Generic, TypeVar

State = TypeVar("State")


class History(Generic[State]):
    """The former states of one object, for as long as stale reads may show them."""

    def __init__(self) -> None:
        self._past: list[tuple[datetime, State]] = []

    def changed(self, former: State, *, at: datetime, kept_since: datetime) -> None:
        """Record that the state was `former` until `at`, and forget states that ended by `kept_since`."""
        self._past = [(ended_at, state) for ended_at, state in self._past if ended_at > kept_since]
        self._past.append((at, former))

    def as_of(self, moment: datetime, *, present: State) -> State:
        """Return the state at a moment, including changes made at exactly that moment."""
        return next((state for ended_at, state in self._past if ended_at > moment), present)
