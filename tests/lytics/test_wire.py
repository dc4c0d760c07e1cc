"""JSON with broken Unicode and huge numbers is still readable."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lytics.wire import parse_json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"a\\ud83d"', "a\ud83d"),
        (b'"a\xff"', "a\udcff"),
        (b'{"\xe9": 1}', {"\udce9": 1}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"1e999", math.inf),
        (b"9" * 5000, math.inf),
        (b"-" + b"9" * 100_000, -math.inf),
        (b'[18446744073709551616, "\\ud83d"]', [2**64, "\ud83d"]),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
    ids=lambda value: repr(value)[:20] if isinstance(value, bytes) else "",
)
def test_broken_text_and_huge_number_are_read(body: bytes, value: object) -> None:
    """Broken Unicode becomes lone surrogates, and huge numbers become infinite."""
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"NaN", b"[Infinity]", b'"\xff', b"{'a': 1}", b"[" * 100_000, b'{"a":' * 100_000, b"[1] x", b'"\x00"'],
    ids=lambda body: repr(body[:9]),
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text does not matter
        parse_json(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_any_json_is_read_as_written(value: object) -> None:
    written = json.dumps(value).replace("Infinity", "1e999").encode()

    assert parse_json(written) == json.loads(written)
