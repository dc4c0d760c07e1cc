"""The naming rules of the e-mail service, passed in by `main` so that this package knows no vendor."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DestinationRules:
    """How audiences and fields are named at the destination.

    Args:
        list_name: returns the name of an audience's list.
        list_name_notes: returns sentences about the changes that `list_name` makes to an audience's name.
        legal_var: returns a legal name for a var.
        standard_vars: vars with a built-in meaning at the destination.
    """

    list_name: Callable[[str], str]
    list_name_notes: Callable[[str], tuple[str, ...]]
    legal_var: Callable[[str], str]
    standard_vars: frozenset[str]
