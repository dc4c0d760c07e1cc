"""ProfileField: one field of the profiles in Lytics, as its schema describes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProfileField:
    """What the schema says of a field; the values are not in it.

    Args:
        type: in Lytics' words, such as `string`, `[]string` or `map[string]int`; empty where it is not said.
        is_identifier: people are known by it.
        is_pii: Lytics' account marks it as personal.
        title: for people; empty where there is none.
    """

    name: str
    type: str
    is_identifier: bool = False
    is_pii: bool = False
    title: str = ""
