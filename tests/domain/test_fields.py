"""The mapping from Lytics fields to vars, with one sentence for each problem."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import BadFields
from app.domain.field import ProfileField
from app.domain.fields import MOST_FIELDS, OPAQUE_TYPES, is_sendable, mapping
from app.sailthru.rules import RULES
from app.sailthru.vars import STANDARD_VARS

SCHEMA = [
    ProfileField("email", "string", is_identifier=True, is_pii=True),
    ProfileField("city", "string"),
    ProfileField("visitct", "int"),
    ProfileField("first-name", "string"),
    ProfileField("first.name", "string"),
    ProfileField("first_name", "string"),
    ProfileField("last_channel", "string"),
    ProfileField("emails", "[]string"),
    ProfileField("hourly", "map[string]int"),
    ProfileField("home_geo", "geolocation"),
    ProfileField("_created", "date"),
    ProfileField("Größe", "number"),
    ProfileField("2nd_city", "string"),
    ProfileField("x" * 40, "string"),
]


@pytest.mark.parametrize(
    ("requested", "fields", "notes"),
    [
        ([], {}, ()),
        ({}, {}, ()),
        (["email", "city"], {"email": "email", "city": "city"}, ()),
        (["city", "city"], {"city": "city"}, ()),
        ({"city": "town", "emails": "city"}, {"city": "town", "emails": "city"}, ()),
        ({"city": "Town", "visitct": "town"}, {"city": "Town", "visitct": "town"}, ()),
        (["hourly", "emails"], {"hourly": "hourly", "emails": "emails"}, ()),
        (
            ["2nd_city"],
            {"2nd_city": "_2nd_city"},
            ("2nd_city is sent as _2nd_city, because Sailthru does not allow that name for a var.",),
        ),
        (
            {"city": "home town"},
            {"city": "home_town"},
            ("home town is sent as home_town, because Sailthru does not allow that name for a var.",),
        ),
        (
            ["_created"],
            {"_created": "_created"},
            ("_created is maintained by Lytics itself and may change at every visit.",),
        ),
        (
            ["_uids"],
            {"_uids": "_uids"},
            ("_uids is maintained by Lytics itself and may change at every visit.",),
        ),
        (
            ["first-name"],
            {"first-name": "first_name"},
            (
                "first-name is sent as first_name, because Sailthru does not allow that name for a var.",
                "first_name has a meaning of its own in Sailthru. Its present value is replaced.",
            ),
        ),
    ],
)
def test_fields_are_mapped_to_legal_vars_with_notes(
    requested: Any, fields: dict[str, str], notes: tuple[str, ...]
) -> None:
    found = mapping(requested, SCHEMA, RULES)

    assert dict(found.fields) == fields
    assert found.notes == notes


@pytest.mark.parametrize(
    ("requested", "problems"),
    [
        ([""], ["The name of field 1 is empty: leave it out."]),
        (["city", "  "], ["The name of field 2 is empty: leave it out."]),
        ({"city": ""}, ["The var of field 1 is empty: leave it out."]),
        (["a" * 257], ["The name of field 1 is longer than 256 characters."]),
        ({"city": "a" * 257}, ["The var of field 1 is longer than 256 characters."]),
        (["ci\x00ty"], ["The name of field 1 contains a character that can't be printed: type it again."]),
        ({"city": "to\nwn"}, ["The var of field 1 contains a character that can't be printed: type it again."]),
        (["\ud83d"], ["The name of field 1 contains a character that can't be printed: type it again."]),
        (["a,b"], ['"a,b" contains a comma, which no Lytics field name does.']),
        (["zip"], ['Lytics has no field "zip".']),
        (["City"], ['Lytics has no field "City"; similar: "city", "2nd_city".']),
        (["last_chanel"], ['Lytics has no field "last_chanel"; similar: "last_channel".']),
        (
            ["home_geo"],
            ['"home_geo" has the Lytics type geolocation, which can\'t be sent to Sailthru: leave it out.'],
        ),
        (
            ["first-name", "first.name", "first_name"],
            ["first-name, first.name and first_name would all be sent as first_name: give each a var of its own."],
        ),
        (
            {"city": "a-b", "visitct": "a_b", "emails": ""},
            [
                "The var of field 3 is empty: leave it out.",
                "city and visitct would all be sent as a_b: give each a var of its own.",
            ],
        ),
        (
            [f"field_{number}" for number in range(MOST_FIELDS + 1)],
            ["These are 76 fields. Choose at most 75: Lytics sends changes of no more."],
        ),
    ],
)
def test_all_problems_are_reported_at_once(requested: Any, problems: list[str]) -> None:
    with pytest.raises(BadFields) as caught:
        mapping(requested, SCHEMA, RULES)

    assert list(caught.value.problems) == problems
    assert str(caught.value) == " ".join(problems)


@pytest.mark.parametrize("kind", sorted(OPAQUE_TYPES))
def test_opaque_type_is_not_sendable(kind: str) -> None:
    assert not is_sendable(ProfileField("a", kind))
    assert not is_sendable(ProfileField("a", f" {kind.upper()}"))
    assert is_sendable(ProfileField("a", "string"))
    assert is_sendable(ProfileField("a", ""))


def test_similar_names_are_listed_for_the_first_ten_problems_only() -> None:
    with pytest.raises(BadFields) as caught:
        mapping([f"city{number}" for number in range(50)], SCHEMA, RULES)

    assert ["similar" in problem for problem in caught.value.problems] == [True] * 10 + [False] * 40


def test_seventy_five_fields_are_allowed() -> None:
    names = [f"field_{number}" for number in range(MOST_FIELDS)]

    assert list(mapping(names, [ProfileField(name, "string") for name in names], RULES).fields) == names


def test_without_a_schema_only_the_existence_of_fields_is_unchecked() -> None:
    found = mapping(["zip", "home_geo"], None, RULES)

    assert dict(found.fields) == {"zip": "zip", "home_geo": "home_geo"}
    assert found.notes == ("Lytics could not be asked for its fields. A field that it does not have is never sent.",)
    assert mapping([], None, RULES).notes == ()
    with pytest.raises(BadFields):
        mapping(["a-b", "a_b"], None, RULES)
    with pytest.raises(BadFields):
        mapping(["a,b"], None, RULES)


def test_note_names_a_var_with_a_meaning_in_sailthru() -> None:
    for var in STANDARD_VARS:
        (note,) = mapping({"city": var}, SCHEMA, RULES).notes

        assert note.startswith(f"{var} has a meaning of its own in Sailthru")


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=5))
def test_any_request_is_made_legal_or_refused(requested: dict[str, str]) -> None:
    try:
        found = mapping(requested, None, RULES).fields
    except BadFields as error:
        said = error.problems
    else:
        said = ()

        assert found.keys() == requested.keys()
        assert len(set(found.values())) == len(requested)
        assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", var) for var in found.values())

    assert all(problem.endswith(".") for problem in said)
