"""Which fields go along, and as which vars: made legal, explained, or refused with a sentence for each problem."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.errors import BadFields
from app.domain.field import ProfileField
from app.domain.fields import MOST_FIELDS, OPAQUE_TYPES, STANDARD_VARS, is_sendable, legal_var, mapping

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
    ("name", "var"),
    [
        ("city", "city"),
        ("City_2", "City_2"),
        ("first-name", "first_name"),
        ("a b.c%d$e", "a_b_c_d_e"),
        ("Größe", "Gr__e"),
        ("2nd", "_2nd"),
        ("_created", "_created"),
        ("x" * 33, "x" * 32),
        ("2" * 32, "_" + "2" * 31),
        ("春", "_"),
        ("", ""),
    ],
)
def test_a_name_is_made_one_that_sailthru_takes(name: str, var: str) -> None:
    assert legal_var(name) == var


@given(st.text(min_size=1))
def test_every_name_gives_a_legal_var(name: str) -> None:
    var = legal_var(name)

    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", var)
    assert legal_var(var) == var


@pytest.mark.parametrize(
    ("wanted", "fields", "notes"),
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
            ("2nd_city is sent as _2nd_city, since Sailthru takes no such name for a var.",),
        ),
        (
            {"city": "home town"},
            {"city": "home_town"},
            ("home town is sent as home_town, since Sailthru takes no such name for a var.",),
        ),
        (
            ["_created"],
            {"_created": "_created"},
            ("_created is a field of Lytics' own bookkeeping, which may change at every visit.",),
        ),
        (
            ["_uids"],
            {"_uids": "_uids"},
            ("_uids is a field of Lytics' own bookkeeping, which may change at every visit.",),
        ),
        (
            ["first-name"],
            {"first-name": "first_name"},
            (
                "first-name is sent as first_name, since Sailthru takes no such name for a var.",
                "first_name has a meaning of its own in Sailthru, and what stands there now is replaced.",
            ),
        ),
    ],
)
def test_what_travels_as_what(wanted: Any, fields: dict[str, str], notes: tuple[str, ...]) -> None:
    """By the field's own name, or by the one that is given; with a note for all that may surprise."""
    found = mapping(wanted, SCHEMA)

    assert dict(found.fields) == fields
    assert found.notes == notes


@pytest.mark.parametrize(
    ("wanted", "problems"),
    [
        ([""], ["The name of field 1 is empty: leave it out."]),
        (["city", "  "], ["The name of field 2 is empty: leave it out."]),
        ({"city": ""}, ["The var of field 1 is empty: leave it out."]),
        (["a" * 257], ["The name of field 1 is longer than 256 characters."]),
        ({"city": "a" * 257}, ["The var of field 1 is longer than 256 characters."]),
        (["ci\x00ty"], ["The name of field 1 has a character that can't be shown: type it anew."]),
        ({"city": "to\nwn"}, ["The var of field 1 has a character that can't be shown: type it anew."]),
        (["\ud83d"], ["The name of field 1 has a character that can't be shown: type it anew."]),
        (["a,b"], ['"a,b" has a comma in it, which no name of a field in Lytics has.']),
        (["zip"], ['Lytics has no field "zip".']),
        (["City"], ['Lytics has no field "City"; near: "city", "2nd_city".']),
        (["last_chanel"], ['Lytics has no field "last_chanel"; near: "last_channel".']),
        (["home_geo"], ["\"home_geo\" is of Lytics' type geolocation, which can't be sent to Sailthru: leave it out."]),
        (
            ["first-name", "first.name", "first_name"],
            ["first-name, first.name and first_name would be sent as one var, first_name: give each a var of its own."],
        ),
        (
            {"city": "a-b", "visitct": "a_b", "emails": ""},
            [
                "The var of field 3 is empty: leave it out.",
                "city and visitct would be sent as one var, a_b: give each a var of its own.",
            ],
        ),
        (
            [f"field_{number}" for number in range(MOST_FIELDS + 1)],
            ["These are 76 fields; choose 75 at most, since Lytics tells of changes in no more."],
        ),
    ],
)
def test_what_can_not_travel(wanted: Any, problems: list[str]) -> None:
    """Every problem is told at once."""
    with pytest.raises(BadFields) as caught:
        mapping(wanted, SCHEMA)

    assert list(caught.value.problems) == problems
    assert str(caught.value) == " ".join(problems)


@pytest.mark.parametrize("kind", sorted(OPAQUE_TYPES))
def test_a_type_that_nobody_has_seen_values_of_is_not_sent(kind: str) -> None:
    assert not is_sendable(ProfileField("a", kind))
    assert not is_sendable(ProfileField("a", f" {kind.upper()}"))
    assert is_sendable(ProfileField("a", "string"))
    assert is_sendable(ProfileField("a", ""))


def test_near_names_are_looked_for_only_so_often() -> None:
    """Among thousands of fields that takes long."""
    with pytest.raises(BadFields) as caught:
        mapping([f"city{number}" for number in range(50)], SCHEMA)

    assert ["near" in problem for problem in caught.value.problems] == [True] * 10 + [False] * 40


def test_seventy_five_fields_are_not_too_many() -> None:
    names = [f"field_{number}" for number in range(MOST_FIELDS)]

    assert list(mapping(names, [ProfileField(name, "string") for name in names]).fields) == names


def test_without_a_schema_it_is_not_checked_that_fields_exist() -> None:
    """Everything else is; and it is said."""
    found = mapping(["zip", "home_geo"], None)

    assert dict(found.fields) == {"zip": "zip", "home_geo": "home_geo"}
    assert found.notes == ("Lytics could not be asked for its fields: one that it does not have is never sent.",)
    assert mapping([], None).notes == ()
    with pytest.raises(BadFields):
        mapping(["a-b", "a_b"], None)
    with pytest.raises(BadFields):
        mapping(["a,b"], None)


def test_a_var_that_sailthru_knows_is_told() -> None:
    for var in STANDARD_VARS:
        (note,) = mapping({"city": var}, SCHEMA).notes

        assert note.startswith(f"{var} has a meaning of its own in Sailthru")


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=40), st.text(max_size=40), max_size=5))
def test_whatever_is_wanted_is_made_legal_or_refused(wanted: dict[str, str]) -> None:
    """What is not refused travels whole, each field under a var of its own."""
    try:
        found = mapping(wanted, None).fields
    except BadFields as error:
        said = error.problems
    else:
        said = ()

        assert found.keys() == wanted.keys()
        assert len(set(found.values())) == len(wanted)
        assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", var) for var in found.values())

    assert all(problem.endswith(".") for problem in said)
