"""ProfileField: one field of the profiles in Lytics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProfileField:
    """One field of Lytics' schema.

    Args:
        type: Lytics' own word, such as `string`, `[]string` or `map[string]int`; empty if it is not reported.
        is_identifier: True if Lytics identifies users by this field.
        is_pii: True if the field is marked as personal data in Lytics.
        title: a label to display; may be empty.
    """

    name: str
    type: str
    is_identifier: bool = False
    is_pii: bool = False
    title: str = ""
