"""Names of Sailthru vars, the fields of a profile."""

import re

LONGEST_VAR = 32
# The vars with a published meaning in Sailthru. They can be written like any other.
STANDARD_VARS = frozenset(
    {
        "name",
        "first_name",
        "last_name",
        "gender",
        "birth_date",
        "phone",
        "postal_address",
        "postal_city",
        "postal_state",
        "postal_code",
        "country",
        "source",
    }
)
_ILLEGAL = re.compile(r"[^A-Za-z0-9_]")


def legal_var(name: str) -> str:
    """Return the name as a legal var: `[A-Za-z_][A-Za-z0-9_]{0,31}`.

    https://getstarted.meetmarigold.com/engagebysailthru/Content/audience/managing-users/set-variables-on-users.html
    """
    legal = _ILLEGAL.sub("_", name)
    return f"_{legal}"[:LONGEST_VAR] if legal[:1].isdigit() else legal[:LONGEST_VAR]
