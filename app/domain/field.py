"""ProfileField: one field of the profiles in Lytics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProfileField:
    """One field of Lytics' schema.

    Args:
        type: Lytics' own word, such as `string`, `[]string` or `map[string]int`; empty if it is not reported.
        is_identifier: Lytics identifies users by this field.
        is_pii: the account marks it as personal.
        title: a label for people; may be empty.
    """

    name: str
    type: str
    is_identifier: bool = False
    is_pii: bool = False
    title: str = ""
