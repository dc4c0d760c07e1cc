"""Finding: how one thing stands that was checked."""

from dataclasses import dataclass
from enum import StrEnum

SETTINGS = "settings"


class Mark(StrEnum):
    """With a warning the service runs, but maybe not as meant."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Args:
        about: what it is.
        happened: how it stands, in a sentence; never a secret.
        next_step: what to do now; None where there is nothing to do, or `happened` says it.
    """

    about: str
    mark: Mark
    happened: str
    next_step: str | None = None
