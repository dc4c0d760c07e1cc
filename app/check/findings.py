"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum

SETTINGS = "settings"


class Mark(StrEnum):
    """With a warning the service runs, but perhaps not as intended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        about: what was checked.
        happened: the result in one sentence; never a secret.
        next_step: what to do now; None if nothing is to be done, or if `happened` says it.
    """

    about: str
    mark: Mark
    happened: str
    next_step: str | None = None
