"""Documents of the v2 and v1 API, and broken ones."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.audience import Audience
from app.domain.errors import AppError, Transient
from app.domain.field import ProfileField
from app.lytics.reading import audience_in, audiences_in, fields_in, page_in
from tests.factories import NOON
from tests.lytics.clients import composed, enveloped, segment, v1

TEA = Audience("aa11bb22cc33dd44ee55ff", "tea_lovers", "Tea Lovers")
COFFEE = Audience("bb22cc33dd44ee55ff66aa", "coffee_lovers", "Coffee Lovers")
VIP = Audience("abc", "vip", "VIP")


def test_v2_list_is_read_without_invalid_audience() -> None:
    assert audiences_in(json.loads(composed("v2_segment_list"))) == [
        Audience("0a1b2c3d4e5f60718293a4b5c6d7e8f9", "spring_buyers", "Spring Buyers", 13),
        Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "lapsed_buyers", "Lapsed Buyers", 0),
    ]


def test_v1_list_is_read() -> None:
    """In v1 the status is text, and sizes are missing."""
    assert audiences_in(json.loads(v1("segment_list"))) == [TEA, COFFEE]
    assert audience_in(json.loads(v1("segment"))) == TEA


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "abc",
        {},
        segment(id=None),
        segment(id="x" * 129),
        segment(name=7),
        segment(name=""),
        segment(name=" \t"),
        segment(id="half a pair \ud83d"),
        segment(id="a\x00"),
        segment(deleted=True),
        segment(invalid=True),
        segment(kind="aspect"),
        segment(table="content"),
        segment(kind=["segment"]),
    ],
    ids=repr,
)
def test_only_bad_audience_is_skipped(bad: object) -> None:
    document = enveloped([bad, segment(id="good"), bad])

    assert audiences_in(document) == [Audience("good", "vip", "VIP")]


@pytest.mark.parametrize(
    ("size", "read"),
    [
        (5, 5),
        (0, 0),
        ("12", 12),
        (None, None),
        (-1, None),
        (True, None),
        (1.5, None),
        ("many", None),
        ("9" * 5000, None),
    ],
)
def test_size_is_number_or_none(size: object, read: int | None) -> None:
    (audience,) = audiences_in(enveloped([segment(size=size, kind="segment", table="user")]))

    assert audience == Audience("abc", "vip", "VIP", read)


def test_repeated_audience_appears_once_with_its_last_values() -> None:
    assert audiences_in(enveloped([segment(name="Old"), segment()])) == [VIP]


def test_null_is_an_empty_list() -> None:
    """Go writes empty lists as null."""
    assert audiences_in(enveloped(None)) == audiences_in(enveloped([])) == []


def test_half_surrogate_pair_is_removed_from_names() -> None:
    document = enveloped([segment(name="VIP\ud83d", slug_name="v\x00ip")])

    assert audiences_in(document) == [VIP]


@pytest.mark.parametrize("document", [None, [], "", {}, {"status": 200}, enveloped("a"), enveloped({}), enveloped(7)])
def test_other_document_is_no_list_of_audiences(document: Any) -> None:
    with pytest.raises(Transient):
        audiences_in(document)


def test_v2_fields_are_read() -> None:
    fields = fields_in(json.loads(composed("v2_schema_user_field")))

    assert len(fields) == 9
    assert fields[0] == ProfileField("email", "string", is_identifier=True, is_pii=True, title="Email Address")
    assert fields[1] == ProfileField("first_name", "string", is_pii=True, title="First Name")
    assert fields[4] == ProfileField("hourly", "map[string]int", title="Visits by Hour")


def test_v1_fields_are_read() -> None:
    """v1 does not say which fields are personal."""
    assert fields_in(json.loads(composed("v1_schema_user"))) == [
        ProfileField("email", "string", is_identifier=True, title="Email Address"),
        ProfileField("created_ts", "date", title="Created Date"),
    ]


def test_v1_columns_are_read() -> None:
    """`by_fields` may name more identifiers than the columns do."""
    assert fields_in(json.loads(v1("schema_columns"))) == [
        ProfileField("email", "string", is_identifier=True, title="Email Address"),
        ProfileField("city", "string"),
        ProfileField("device_id", "string", is_identifier=True, title="Device"),
        ProfileField("loyalty_number", "", is_identifier=True),
    ]


@pytest.mark.parametrize("bad", [None, "city", {}, {"id": ""}, {"id": 7}, {"id": "x" * 257}, {"id": "a", "type": 7}])
def test_only_bad_field_is_skipped(bad: object) -> None:
    good = {"id": "city", "type": "string"}

    assert fields_in(enveloped([bad, good, bad])) == [ProfileField("city", "string")]
    assert fields_in(enveloped({"fields": [bad, {"as": "city", "type": "string"}]})) == [ProfileField("city", "string")]


def test_field_needs_only_a_name() -> None:
    fields = fields_in(enveloped([{"id": "a"}, {"id": "b", "type": None, "shortdesc": None}, {"id": "a"}]))

    assert fields == [ProfileField("a", ""), ProfileField("b", "")]


@pytest.mark.parametrize(
    "document", [None, [], {}, enveloped("a"), enveloped({}), enveloped({"fields": "a"}), enveloped({"name": "user"})]
)
def test_other_document_is_no_schema(document: Any) -> None:
    with pytest.raises(Transient):
        fields_in(document)


def test_v1_pages_are_read() -> None:
    """Scalars are text, a member may have no address, and the last page has no token."""
    found = [page_in(json.loads(v1(f"segment_scan_{number}")), NOON) for number in (1, 2, 3)]

    assert [page.next for page in found] == ["second", "third", None]
    assert [len(page.rows) for page in found] == [2, 2, 1]
    assert {page.total for page in found} == {5}
    assert found[0].rows[0] == {
        "_id": "15000000000000000001",
        "email": "drinker1@example.com",
        "emails": ["drinker1@example.com"],
        "hourly": {"7": "3", "15": "1"},
        "segments": ["tea_lovers"],
        "visitct": "1",
    }
    assert "email" not in found[1].rows[1]
    assert found[0].answered_at == NOON


@pytest.mark.parametrize(
    ("tokens", "next_token"),
    [
        ({"_next": "a"}, "a"),
        ({"_next": ""}, None),
        ({"_next": None}, None),
        ({}, None),
        ({"next": "b"}, "b"),
        ({"next": ""}, None),
        ({"_next": "", "next": "b"}, None),
        ({"_next": "a", "next": "b"}, "a"),
    ],
)
def test_token_of_next_page_is_found(tokens: dict[str, object], next_token: str | None) -> None:
    """`next`, from an old tutorial, counts only if `_next` is missing."""
    assert page_in(enveloped([], **tokens), NOON).next == next_token


@pytest.mark.parametrize(("total", "read"), [(13, 13), ("13", 13), (None, None), (-1, None), ("x", None), ({}, None)])
def test_total_is_number_or_none(total: object, read: int | None) -> None:
    assert page_in(enveloped([], total=total), NOON).total == read


def test_null_data_is_empty_page() -> None:
    page = page_in(enveloped(None, total=0), None)

    assert (page.rows, page.next, page.answered_at) == ((), None, None)


def test_unreadable_rows_are_counted() -> None:
    page = page_in(enveloped([{"_id": "1"}, None, "x", [], {"_id": "2"}]), NOON)

    assert page.rows == ({"_id": "1"}, {"_id": "2"})
    assert page.unreadable == 3


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"_next": ""}, enveloped("a"), enveloped({}), enveloped([], _next=7), enveloped([], _next="\ud83d")],
)
def test_other_document_is_no_page(document: Any) -> None:
    """An answer without data must not look like the end of an audience."""
    with pytest.raises(Transient):
        page_in(document, NOON + timedelta(0))


NAMES = ["id", "as", "name", "data", "fields", "columns", "by_fields", "_next", "total", "type"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["data", "_next", "next", "total", "status"]), JSON))
def test_any_document_is_read_or_raises_our_error(document: dict[str, object]) -> None:
    for read in (audience_in, audiences_in, fields_in, lambda body: page_in(body, None)):
        with suppress(AppError):
            read(document)
