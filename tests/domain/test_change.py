"""Order of moves."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.change import Move

IN_ORDER = [
    Move(10, 90, is_enter=True),
    Move(11, 20, is_enter=False),
    Move(11, 20, is_enter=True),
    Move(11, 21, is_enter=False),
    Move(12, 0, is_enter=False),
]


@pytest.mark.parametrize(("older", "newer"), list(pairwise(IN_ORDER)))
def test_moves_are_ordered_by_event_time_message_time_then_exit_before_enter(older: Move, newer: Move) -> None:
    assert older < newer


MOVES = st.builds(Move, st.integers(0, 3), st.integers(0, 3), st.booleans())


@given(MOVES, MOVES)
def test_any_two_moves_are_ordered_or_equal(one: Move, other: Move) -> None:
    """The newest move is therefore the same in any order of arrival."""
    assert [one < other, one == other, one > other].count(True) == 1
