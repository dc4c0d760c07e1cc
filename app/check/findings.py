"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum

SETTINGS = "settings"


class Mark(StrEnum):
    """The severity of a finding. After a warning the service runs, but perhaps not as intended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        about: the subject of the check.
        happened: the result in one sentence; never a secret.
        next_step: the remedy; None if none is needed or `happened` names it.
    """

    about: str
    mark: Mark
    happened: str
    next_step: str | None = None
