"""What a fixed word or number means, in sentences ready to be shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code or reason in words.

    Args:
        happened: what happened, in a sentence.
        to_whom: whom it concerns: a person, a list, an account, or everybody.
        next_step: what to do now.
    """

    happened: str
    to_whom: str
    next_step: str
