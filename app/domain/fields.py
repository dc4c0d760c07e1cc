"""Maps the Lytics fields of an export to vars."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from app.domain.destination_rules import DestinationRules
from app.domain.errors import BadFields
from app.domain.field import ProfileField

# Limit of "Fields to Trigger" in a Lytics job: a change of any further field sends no event.
# https://www.contentstack.com/docs/lytics/webhooks
MOST_FIELDS = 75
LONGEST_NAME = 256
SIMILAR_NAMES = 3
# Similar names are listed only for the first problems, because the search is slow among thousands of fields.
MOST_WITH_SIMILAR = 10
# Prefix of the fields that Lytics maintains for itself. Its schema hides some of them.
BOOKKEEPING = "_"
# Lytics does not show the values of these types, so the values that Sailthru would receive are unknown.
OPAQUE_TYPES = frozenset({"geolocation", "embedding", "membership", "flows", "dynamic", "[]timebucket"})


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """The fields that an export sends.

    Args:
        fields: Lytics field → var.
        notes: remarks for an operator, one sentence each.
        types: Lytics field → type in Lytics' schema, where known.
    """

    fields: Mapping[str, str]
    notes: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


def is_sendable(profile_field: ProfileField) -> bool:
    """Return False for fields of an opaque type."""
    return profile_field.type.strip().lower() not in OPAQUE_TYPES


def mapping(
    requested: Sequence[str] | Mapping[str, str], schema: Iterable[ProfileField] | None, rules: DestinationRules
) -> FieldMapping:
    """Check the requested fields and return the mapping with legal vars.

    Args:
        requested: names of Lytics fields, each sent under its own name; or Lytics field → var.
        schema: all fields of Lytics; None if Lytics could not be asked. The existence of fields is then not checked.

    Raises:
        BadFields: one sentence for each problem.
    """
    pairs = dict(requested) if isinstance(requested, Mapping) else {name: name for name in requested}
    if len(pairs) > MOST_FIELDS:
        raise BadFields(
            [f"These are {len(pairs)} fields. Choose at most {MOST_FIELDS}: Lytics sends changes of no more."]
        )
    known = None if schema is None else {profile_field.name: profile_field for profile_field in schema}
    problems: list[str] = []
    notes: list[str] = []
    fields: dict[str, str] = {}
    for number, (name, requested_var) in enumerate(pairs.items(), start=1):
        problem = (
            _problem_of_name(name, f"The name of field {number}")
            or _problem_of_name(requested_var, f"The var of field {number}")
            or _problem_in_schema(name, known, with_similar=len(problems) < MOST_WITH_SIMILAR)
        )
        if problem is not None:
            problems.append(problem)
            continue
        fields[name] = rules.legal_var(requested_var)
        notes += _notes_of(name, requested_var, fields[name], rules)
    problems += _collisions(fields)
    if problems:
        raise BadFields(problems)
    if fields and known is None:
        notes.append("Lytics could not be asked for its fields. A field that it does not have is never sent.")
    types = {name: known[name].type for name in fields if known is not None and name in known}
    return FieldMapping(fields, tuple(notes), types)


def _problem_of_name(name: str, which: str) -> str | None:
    if not name.strip():
        return f"{which} is empty: leave it out."
    if len(name) > LONGEST_NAME:
        return f"{which} is longer than {LONGEST_NAME} characters."
    if not name.isprintable():
        return f"{which} contains a character that can't be printed: type it again."
    return None


def _problem_in_schema(name: str, known: Mapping[str, ProfileField] | None, *, with_similar: bool) -> str | None:
    if "," in name:
        # A scan passes its fields to Lytics as a comma-separated list.
        return f'"{name}" contains a comma, which no Lytics field name does.'
    if known is None:
        return None
    found = known.get(name)
    if found is not None and not is_sendable(found):
        return f'"{name}" has the Lytics type {found.type.strip()}, which can\'t be sent to Sailthru: leave it out.'
    if found is None and not name.startswith(BOOKKEEPING):
        return f'Lytics has no field "{name}"{_similar(name, known) if with_similar else ""}.'
    return None


def _similar(name: str, known: Iterable[str]) -> str:
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    similar = [f'"{by_lower[lower]}"' for lower in get_close_matches(name.lower(), by_lower, SIMILAR_NAMES)]
    return f"; similar: {', '.join(similar)}" if similar else ""


def _notes_of(name: str, requested_var: str, var: str, rules: DestinationRules) -> list[str]:
    notes = []
    if var != requested_var:
        notes.append(f"{requested_var} is sent as {var}, because Sailthru does not allow that name for a var.")
    if name.startswith(BOOKKEEPING):
        notes.append(f"{name} is maintained by Lytics itself and may change at every visit.")
    if var in rules.standard_vars:
        notes.append(f"{var} has a meaning of its own in Sailthru. Its present value is replaced.")
    return notes


def _collisions(fields: Mapping[str, str]) -> list[str]:
    by_var: defaultdict[str, list[str]] = defaultdict(list)
    for name, var in fields.items():
        by_var[var].append(name)
    return [
        f"{', '.join(names[:-1])} and {names[-1]} would all be sent as {var}: give each a var of its own."
        for var, names in by_var.items()
        if len(names) > 1
    ]
