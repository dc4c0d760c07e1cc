"""Explanation: the meaning of a code or a reason, in sentences to display."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code or reason in plain words.

    Args:
        happened: what happened, as a sentence.
        to_whom: the affected objects, as a phrase: a member, a list, an account, a backfill or all members.
        next_step: what to do next, as one or more sentences.
    """

    happened: str
    to_whom: str
    next_step: str
