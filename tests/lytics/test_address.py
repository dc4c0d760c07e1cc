"""Validation of addresses, and their canonical spelling."""

from typing import Any

import pytest
from email_validator import validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from app.lytics.address import usable_address

ODD = st.text(alphabet="aZ09.-_+@\"'[]:<> éüßİ\u0130\u200b\x00\n\ud83dxn--", max_size=40)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada.Sample@Example.COM\n", "ada.sample@example.com"),
        ("ada+spring@mail.example.co.uk", "ada+spring@mail.example.co.uk"),
        ("o'brien_#1@example.com", "o'brien_#1@example.com"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        (f"ada@{'sub.' * 20}example.com", f"ada@{'sub.' * 20}example.com"),
        ("ada@M\u00dcNCHEN.de", "ada@xn--mnchen-3ya.de"),
        ("ada@xn--mnchen-3ya.de", "ada@xn--mnchen-3ya.de"),
        ("zo\u00eb@example.com", "zo\u00eb@example.com"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
        (["nonsense", 7, None, "Ada@example.com", "grace@example.com"], "ada@example.com"),
        (("ada@example.com",), "ada@example.com"),
    ],
)
def test_address_has_one_spelling(value: object, address: str) -> None:
    assert usable_address(value) == address


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        True,
        {},
        {"email": "ada@example.com"},
        b"ada@example.com",
        [],
        ["nonsense", ["ada@example.com"]],
        "",
        "   ",
        "ada",
        "ada@",
        "@example.com",
        "ada@example",
        "ada@localhost",
        "ada@example.com.",
        "ada@.example.com",
        "ada@-example.com",
        "ada@exa_mple.com",
        "ada@xn--\u00fc.com",
        "ada@127.0.0.1",
        "ada@[127.0.0.1]",
        '"ada lovelace"@example.com',
        '"ada"@example.com',
        ".ada@example.com",
        "ada.@example.com",
        "ada..l@example.com",
        "ada lovelace@example.com",
        "ada@example.com, grace@example.com",
        "ada@example.com@example.com",
        "Ada <ada@example.com>",
        "mailto:ada@example.com",
        "ada\x00@example.com",
        "ada@exam\x00ple.com",
        "ada\n@example.com",
        "ada\u200b@exa\u0000mple.com",
        "\ud83d@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + "b." * 130 + "com",
        "a" * 1_000_000,
    ],
)
def test_unusable_address_is_none(value: object) -> None:
    assert usable_address(value) is None


@given(
    st.one_of(
        ODD, st.recursive(st.none() | st.integers() | ODD, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
    )
)
@example("\ud83d@\ud83d.com")
@example(["a@xn--.com"])
def test_any_value_can_be_checked(value: Any) -> None:
    usable_address(value)


@given(st.emails() | ODD)
@example("\u0130@example.com")
@example("A\u0328\u030a@M\u00dcNCHEN.de")
def test_usable_address_stays_unchanged(text: str) -> None:
    address = usable_address(text)

    assert address is None or usable_address(address) == address


@given(st.from_regex(r"[a-z0-9.!#'+-]{1,8}@([a-z0-9-]{1,5}\.){1,3}[a-z]{2,4}", fullmatch=True))
def test_fast_pattern_accepts_no_more_than_the_validator(text: str) -> None:
    address = usable_address(text)

    if address is not None:
        validated = validate_email(address, check_deliverability=False)
        assert f"{validated.local_part}@{validated.ascii_domain}" == address
