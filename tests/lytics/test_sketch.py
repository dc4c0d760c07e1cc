"""Sketches show the form of rejected bodies, and no values of profiles."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lytics.sketch import LONGEST_SKETCH_BYTES, MOST_EVENTS, MOST_NAMES, mask, sketch, sketch_beginning
from tests.lytics.test_webhook import element, message

COMPOSED = Path(__file__).parents[1] / "fixtures" / "lytics" / "composed"
FIXTURES = sorted(COMPOSED.glob("webhook_*.json"))


def sketch_of(document: object) -> Any:
    """Return the sketch of a JSON body, parsed."""
    (text,) = sketch(json.dumps(document).encode())
    return json.loads(text)


def test_envelope_stays_and_values_of_profile_become_placeholders() -> None:
    body = message(extra={"a": 1})
    body["data"] = {
        "email": "ada@example.com",
        "visits": 7,
        "score": 0.5,
        "is_member": True,
        "phone": None,
        "city": "",
        "tags": ["a", "b"],
        "attributes": {"plan": "basic"},
        "segment_events": [element(event="exit", note="said Ada"), "Ada"],
    }

    assert sketch_of(body) == {
        "id": body["id"],
        "meta": {"object": "user", "timestamp": "2026-04-11T17:40:36.220144871Z"},
        "data": {
            "segment_events": [element(event="exit", note="(string)"), "(string)"],
            "email": "(string)",
            "visits": "(number)",
            "score": "(number)",
            "is_member": "(boolean)",
            "phone": "(null)",
            "city": "(empty string)",
            "tags": "(list of 2)",
            "attributes": "(object of 1)",
        },
        "extra": "(object of 1)",
    }


def test_envelope_stays_only_in_cloud_event() -> None:
    envelope = {"specversion": "1.0", "source": "urn:job/1", "type": "com.lytics", "time": "2026-04-11T17:40:36Z"}
    without = {name: value for name, value in envelope.items() if name != "specversion"}

    assert sketch_of({"id": "15", **envelope}) == {"id": "15", **envelope}
    assert sketch_of({"id": "15", **without}) == {"id": "15", **dict.fromkeys(without, "(string)")}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"id": "ada@example.com"}, {"id": "xxx@xxxxxxx.xxx"}),
        ({"id": 15}, {"id": "(number)"}),
        ({"meta": {"object": "Ada Sample", "more": 1}}, {"meta": {"object": "xxx xxxxxx", "more": "(number)"}}),
        ({"meta": [1]}, {"meta": "(list of 1)"}),
        ({"data": "ada@example.com"}, {"data": "(string)"}),
        ({"data": {"segment_events": "Ada"}}, {"data": {"segment_events": "(string)"}}),
        (
            {"data": {"segment_events": [element(event="Ada", enter="12th of May", slug=None)]}},
            {"data": {"segment_events": [element(event="xxx", enter="99xx xx xxx", slug="(null)")]}},
        ),
        (
            {"data": {"ada@example.com": 1, "49 151": 2}},
            {"data": {"xxx@xxxxxxx.xxx": "(number)", "99 999": "(number)"}},
        ),
        ("Ada", "(string)"),
        ([1], "(list of 1)"),
        (None, "(null)"),
    ],
)
def test_unexpected_value_is_masked(document: object, expected: object) -> None:
    """A Lytics Template may put an address in place of an id."""
    assert sketch_of(document) == expected


def test_item_of_array_is_shown_with_its_index() -> None:
    body = json.dumps([message(), 7, {"data": {}}]).encode()

    assert sketch(body, [2, 1, 9]) == ['[2] {"data": {}}', '[1] "(number)"', '[9] "(null)"']


def test_excess_events_and_names_are_counted() -> None:
    events = sketch_of(message(*[element()] * (MOST_EVENTS + 3)))["data"]["segment_events"]
    names = sketch_of({f"f{n}": n for n in range(MOST_NAMES + 5)})

    assert events[-1] == "(and 3 more)"
    assert names["(more)"] == "(5 more)"
    assert len(events) == MOST_EVENTS + 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"email=ada%40example.com&city=Turin", "xxxxx=xxx%99xxxxxxx.xxx&xxxx=xxxxx"),
        (b'<p title="Ada">Ada</p>', '<x xxxxx="xxx">xxx</x>'),
        (
            b'{"id": "15", "data": {"email": "ada@example.com", "c',
            '{"id": "99", "data": {"email": "xxx@xxxxxxx.xxx", "x',
        ),
        (b'[{"data": {"city" : "Turin", "by": {"Ada": 4,', '[{"data": {"city": "xxxxx", "by": {"xxx": 9,'),
        (b'{"data": {"segment_events": [{"event": "Ada",', '{"data": {"segment_events": [{"event": "xxx",'),
        (b'{"first": "Ada":"city": "Turin",', '{"first": "xxx":"xxxx": "xxxxx",'),
        (b'{"ada@example.com": 1, "said \\"Ada\\"": 2', '{"xxx@xxxxxxx.xxx": 9, "xxxx \\"xxx\\"": 9'),
        ("{'Zoë': 'Łódź ٢', \x00\x07\r\n\t\ud83d}".encode("utf-8", "surrogatepass"), "{'xxx': 'xxxx 9', ???}"),
        (b"\xff\xfe", "??"),
        (b"", ""),
    ],
)
def test_other_text_is_masked_except_names_of_fields(body: bytes, expected: str) -> None:
    """Deep names may be keys of a map, and a value before a colon is not a name."""
    assert sketch(body) == [expected]


def test_only_the_beginning_of_long_text_is_used() -> None:
    text = sketch_beginning(b'{"data": {"email": "' + b"a" * 100_000)

    assert text.startswith('{"data": {"email": "xxx')
    assert len(text) == LONGEST_SKETCH_BYTES
    assert text.endswith("x...")


def test_long_sketch_loses_names_of_fields_first() -> None:
    body = message()
    body["data"] = {**{f"a_long_name_of_a_field_{n}": n for n in range(1000)}, "segment_events": [element()]}
    (text,) = sketch(json.dumps(body).encode())

    assert len(text) == LONGEST_SKETCH_BYTES
    assert json.dumps(element()["enter"]) in text


def values_in(document: object) -> Iterator[str]:
    """Yield every text in a profile that could be personal."""
    if isinstance(document, dict):
        for value in document.values():
            yield from values_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from values_in(value)
    elif isinstance(document, str) and len(document) > 2:
        yield document


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_sketch_of_fixture_holds_no_value_of_profile(path: Path) -> None:
    """The sketch of a truncated body holds no value either."""
    body = path.read_bytes()
    document = json.loads(body)
    messages = document if isinstance(document, list) else [document]
    values = {
        value
        for sent in messages
        for name, field in sent["data"].items()
        if name != "segment_events"
        for value in values_in(field)
        # A channel has the same name as its field.
        if value not in sent["data"]
    }
    texts = [*sketch(body, list(range(len(messages)))), *(sketch(body[:end])[0] for end in range(0, len(body), 7))]

    assert [text for text in texts for value in values if f'"{value}"' in text] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["id", "data", "meta", "segment_events", "event", "specversion"]), inner)
        | st.dictionaries(st.text(st.characters()), inner)
    ),
)


@given(JSON, st.lists(st.none() | st.integers(0, 5), max_size=3))
def test_any_json_has_a_printable_sketch(document: object, items: list[int | None]) -> None:
    texts = sketch(json.dumps(document).encode(), items)

    assert len(texts) == len(items)
    assert all(text.isascii() and text.isprintable() and len(text) <= LONGEST_SKETCH_BYTES for text in texts)


@given(
    st.binary(max_size=300) | st.text(alphabet='"\\{}[]:, aé1\x00\ud83d').map(lambda t: t.encode("utf-8", "replace"))
)
def test_any_bytes_have_a_printable_sketch(body: bytes) -> None:
    (text,) = sketch(body)

    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= LONGEST_SKETCH_BYTES


def test_mask_keeps_punctuation() -> None:
    assert mask("Ada-7, Ünïted!\n\x07²") == "xxx-9, xxxxxx! x"
