"""Which Lytics fields go along to Sailthru, and as which vars: what an operator wished, made legal or refused."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from app.domain.errors import BadFields
from app.domain.field import ProfileField

# "Fields to Trigger" of Lytics' job: of more fields a change would not be told.
# https://www.contentstack.com/docs/lytics/webhooks
MOST_FIELDS = 75
LONGEST_NAME = 256
LONGEST_VAR = 32
NEAR_NAMES = 3
# Looking for near names takes long among thousands of fields.
MOST_WITH_NEAR = 10
BOOKKEEPING = "_"

OPAQUE_TYPES = frozenset({"geolocation", "embedding", "membership", "flows", "dynamic", "[]timebucket"})
"""
Types whose values Lytics shows nowhere, so that nobody can say what Sailthru would get.
"""

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
"""
Vars to which Sailthru gives a meaning of its own, as far as is published. They can be written like others.
"""

_ILLEGAL = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Which fields go along.

    Args:
        fields: the Sailthru var of each Lytics field.
        notes: what the operator should know, a sentence each.
        types: their types in Lytics' schema, as far as they are known.
    """

    fields: Mapping[str, str]
    notes: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


def legal_var(name: str) -> str:
    """The name as Sailthru takes it for a var: `[A-Za-z_][A-Za-z0-9_]{0,31}`.

    https://getstarted.meetmarigold.com/engagebysailthru/Content/audience/managing-users/set-variables-on-users.html
    """
    legal = _ILLEGAL.sub("_", name)
    return f"_{legal}"[:LONGEST_VAR] if legal[:1].isdigit() else legal[:LONGEST_VAR]


def is_sendable(one: ProfileField) -> bool:
    """False for fields of a type that Sailthru can't be told."""
    return one.type.strip().lower() not in OPAQUE_TYPES


def mapping(wanted: Sequence[str] | Mapping[str, str], schema: Iterable[ProfileField] | None) -> FieldMapping:
    """The fields as they will travel.

    Args:
        wanted: names of Lytics fields, each to be sent under its own name; or the Sailthru var of each field.
        schema: the fields that Lytics has; None where it can't be asked, and then it is not checked that they exist.

    Raises:
        BadFields: with a sentence for each problem.
    """
    pairs = dict(wanted) if isinstance(wanted, Mapping) else {name: name for name in wanted}
    if len(pairs) > MOST_FIELDS:
        raise BadFields(
            [f"These are {len(pairs)} fields; choose {MOST_FIELDS} at most, since Lytics tells of changes in no more."]
        )
    known = None if schema is None else {one.name: one for one in schema}
    problems: list[str] = []
    notes: list[str] = []
    fields: dict[str, str] = {}
    for number, (name, asked_var) in enumerate(pairs.items(), start=1):
        problem = (
            _flaw_of_name(name, f"The name of field {number}")
            or _flaw_of_name(asked_var, f"The var of field {number}")
            or _flaw_in_schema(name, known, with_near=len(problems) < MOST_WITH_NEAR)
        )
        if problem is not None:
            problems.append(problem)
            continue
        fields[name] = legal_var(asked_var)
        notes += _notes_of(name, asked_var, fields[name])
    problems += _collisions(fields)
    if problems:
        raise BadFields(problems)
    if fields and known is None:
        notes.append("Lytics could not be asked for its fields: one that it does not have is never sent.")
    types = {name: known[name].type for name in fields if known is not None and name in known}
    return FieldMapping(fields, tuple(notes), types)


def _flaw_of_name(name: str, which: str) -> str | None:
    if not name.strip():
        return f"{which} is empty: leave it out."
    if len(name) > LONGEST_NAME:
        return f"{which} is longer than {LONGEST_NAME} characters."
    if not name.isprintable():
        return f"{which} has a character that can't be shown: type it anew."
    return None


def _flaw_in_schema(name: str, known: Mapping[str, ProfileField] | None, *, with_near: bool) -> str | None:
    if "," in name:
        # Lytics takes the fields of a scan as a list with commas.
        return f'"{name}" has a comma in it, which no name of a field in Lytics has.'
    if known is None:
        return None
    found = known.get(name)
    if found is not None and not is_sendable(found):
        return f"\"{name}\" is of Lytics' type {found.type.strip()}, which can't be sent to Sailthru: leave it out."
    # Lytics hides some of its bookkeeping from the schema, but has it all the same.
    if found is None and not name.startswith(BOOKKEEPING):
        return f'Lytics has no field "{name}"{_near(name, known) if with_near else ""}.'
    return None


def _near(name: str, known: Iterable[str]) -> str:
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(one.lower(), one)
    near = [f'"{by_lower[one]}"' for one in get_close_matches(name.lower(), by_lower, NEAR_NAMES)]
    return f"; near: {', '.join(near)}" if near else ""


def _notes_of(name: str, asked_var: str, var: str) -> list[str]:
    notes = []
    if var != asked_var:
        notes.append(f"{asked_var} is sent as {var}, since Sailthru takes no such name for a var.")
    if name.startswith(BOOKKEEPING):
        notes.append(f"{name} is a field of Lytics' own bookkeeping, which may change at every visit.")
    if var in STANDARD_VARS:
        notes.append(f"{var} has a meaning of its own in Sailthru, and what stands there now is replaced.")
    return notes


def _collisions(fields: Mapping[str, str]) -> list[str]:
    by_var: defaultdict[str, list[str]] = defaultdict(list)
    for name, var in fields.items():
        by_var[var].append(name)
    return [
        f"{_listed(names)} would be sent as one var, {var}: give each a var of its own."
        for var, names in by_var.items()
        if len(names) > 1
    ]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
