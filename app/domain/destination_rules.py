"""The naming rules of the e-mail service, passed in by `main` so that this package knows no vendor."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DestinationRules:
    """How audiences and fields are named at the destination.

    Args:
        list_name: returns the name of an audience's list.
        list_name_notes: returns what `list_name` changes in an audience's name, in words.
        legal_var: returns a legal name for a var.
        standard_vars: vars to which the destination itself gives a meaning.
    """

    list_name: Callable[[str], str]
    list_name_notes: Callable[[str], tuple[str, ...]]
    legal_var: Callable[[str], str]
    standard_vars: frozenset[str]
