"""Names of Sailthru vars."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sailthru.vars import legal_var


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
def test_name_becomes_a_legal_var(name: str, var: str) -> None:
    assert legal_var(name) == var


@given(st.text(min_size=1))
def test_every_name_gives_a_legal_var_that_stays_as_it_is(name: str) -> None:
    var = legal_var(name)

    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", var)
    assert legal_var(var) == var
