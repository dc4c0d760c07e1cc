"""What has to be said to Sailthru about a person, and how it fits into one request."""

from datetime import timedelta

import pytest

from app.domain.call import Call, Pending, plan
from app.domain.membership import Confirmed, Need, digest
from tests.factories import LIST, NOON, claim, membership, ns, pending

OTHER = "Lytics Lapsed"
ADA_VARS = {"first_name": "Ada"}
NONE: dict[str, object] = {}


@pytest.mark.parametrize(
    ("wanted", "confirmed", "vars_", "confirmed_vars", "need"),
    [
        (True, Confirmed.NEVER, NONE, None, Need.JOIN),
        (True, Confirmed.NEVER, ADA_VARS, None, Need.JOIN),
        (True, Confirmed.NEVER, ADA_VARS, digest(ADA_VARS), Need.JOIN),
        (True, Confirmed.OUT, NONE, None, Need.JOIN),
        (True, Confirmed.OUT, ADA_VARS, None, Need.JOIN),
        (True, Confirmed.OUT, ADA_VARS, digest(ADA_VARS), Need.JOIN),
        (True, Confirmed.UNKNOWN, NONE, None, Need.READ),
        (True, Confirmed.UNKNOWN, ADA_VARS, None, Need.READ),
        (True, Confirmed.UNKNOWN, ADA_VARS, digest(ADA_VARS), Need.READ),
        (True, Confirmed.IN, NONE, None, Need.NOTHING),
        (True, Confirmed.IN, NONE, digest(ADA_VARS), Need.NOTHING),
        (True, Confirmed.IN, ADA_VARS, None, Need.VARS),
        (True, Confirmed.IN, ADA_VARS, digest({"first_name": "Grace"}), Need.VARS),
        (True, Confirmed.IN, ADA_VARS, digest(ADA_VARS), Need.NOTHING),
        (False, Confirmed.NEVER, NONE, None, Need.READ),
        (False, Confirmed.IN, NONE, None, Need.LEAVE),
        (False, Confirmed.IN, NONE, digest(ADA_VARS), Need.LEAVE),
        (False, Confirmed.OUT, NONE, None, Need.NOTHING),
        (False, Confirmed.UNKNOWN, NONE, None, Need.LEAVE),
    ],
)
def test_what_has_to_be_said(
    wanted: bool, confirmed: Confirmed, vars_: dict[str, object], confirmed_vars: str | None, need: Need
) -> None:
    """A join goes out only if it is news; a leave of somebody unknown to us only after a look; an unknown outcome is
    read before a join is repeated, and simply left again.
    """
    assert membership(desired=wanted, confirmed=confirmed, vars=vars_, confirmed_vars=confirmed_vars).need is need


@pytest.mark.parametrize(("revision", "confirmed_revision", "is_pending"), [(1, 0, True), (1, 1, False), (0, 0, False)])
def test_pending_means_that_a_revision_was_not_told(revision: int, confirmed_revision: int, is_pending: bool) -> None:
    """The queue is this difference and nothing else."""
    assert membership(revision=revision, confirmed_revision=confirmed_revision).is_pending is is_pending


def test_a_digest_does_not_depend_on_the_order_of_vars() -> None:
    """Lytics sends the fields of a profile in any order."""
    assert digest({"a": 1, "b": "ü"}) == digest({"b": "ü", "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert len(digest({})) == 32


def test_several_lists_of_one_person_travel_in_one_call_with_the_vars() -> None:
    """Joins, leaves and new vars of all that is pending."""
    call = plan(
        [
            pending("a", export_id=1, vars={"first_name": "Ada"}),
            pending("b", export_id=2, desired=False, confirmed=Confirmed.IN),
            pending("c", export_id=3, confirmed=Confirmed.IN, vars={"city": "London"}),
            pending("d", export_id=4, confirmed=Confirmed.OUT),
        ]
    )

    assert set(call.join) == {"a", "d"}
    assert call.leave == ("b",)
    assert call.vars == {"first_name": "Ada", "city": "London"}
    assert call.covers == {1: Confirmed.IN, 2: Confirmed.OUT, 3: Confirmed.IN, 4: Confirmed.IN}
    assert call.is_write
    assert not call.is_read


def test_changed_fields_cause_a_call_without_lists() -> None:
    """A second join could start a flow again."""
    call = plan([pending(confirmed=Confirmed.IN, vars=ADA_VARS)])

    assert call == Call(vars=ADA_VARS, covers={1: Confirmed.IN})


def test_what_is_told_already_is_settled_without_a_request() -> None:
    """It is covered, but nothing is written for it."""
    call = plan([pending(confirmed=Confirmed.OUT, desired=False)])

    assert call == Call(covers={1: Confirmed.OUT})
    assert not call.is_write


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_values_for_one_var_the_newer_stays(order: int) -> None:
    """Two exports may fill the same var; the message time decides, not the order of the exports."""
    older = pending("a", export_id=2, fields_at_ns=ns(1), vars={"first_name": "Augusta", "city": "London"})
    newer = pending("b", export_id=1, fields_at_ns=ns(2), vars={"first_name": "Ada"})

    assert plan([older, newer][::order]).vars == {"first_name": "Ada", "city": "London"}


def test_one_doubt_puts_a_read_before_everything() -> None:
    """Nothing is written, and so nothing covered, before Sailthru was asked."""
    call = plan([pending("a", export_id=1), pending("b", export_id=2, confirmed=Confirmed.UNKNOWN)])

    assert call == Call(is_read=True)


@pytest.mark.parametrize(
    ("wanted", "confirmed", "vars_", "lists", "expected"),
    [
        (True, Confirmed.UNKNOWN, NONE, frozenset({LIST}), Call(covers={1: Confirmed.IN})),
        (True, Confirmed.UNKNOWN, ADA_VARS, frozenset({LIST}), Call(vars=ADA_VARS, covers={1: Confirmed.IN})),
        (True, Confirmed.UNKNOWN, ADA_VARS, frozenset({OTHER}), Call((LIST,), vars=ADA_VARS, covers={1: Confirmed.IN})),
        (True, Confirmed.UNKNOWN, NONE, frozenset(), Call((LIST,), covers={1: Confirmed.IN})),
        (True, Confirmed.UNKNOWN, NONE, None, Call((LIST,), covers={1: Confirmed.IN})),
        (False, Confirmed.NEVER, NONE, frozenset({LIST}), Call((), (LIST,), covers={1: Confirmed.OUT})),
        (False, Confirmed.NEVER, NONE, frozenset({OTHER}), Call(covers={1: Confirmed.OUT})),
        (False, Confirmed.NEVER, NONE, None, Call(covers={1: Confirmed.OUT})),
    ],
)
def test_after_a_read(
    wanted: bool, confirmed: Confirmed, vars_: dict[str, object], lists: frozenset[str] | None, expected: Call
) -> None:
    """On the list counts as told; who is a stranger there is not written, since that would create a profile."""
    call = plan([pending(desired=wanted, confirmed=confirmed, vars=vars_)], lists, was_read=True)

    assert call == expected


def test_a_read_does_not_hold_up_what_was_clear_before() -> None:
    """After it everything pending goes out in one write."""
    ones = [
        pending("a", export_id=1, confirmed=Confirmed.UNKNOWN),
        pending("b", export_id=2, desired=False, confirmed=Confirmed.UNKNOWN),
        pending("c", export_id=3),
    ]

    assert plan(ones, frozenset({"a"}), was_read=True) == Call(
        ("c",), ("b",), covers={1: Confirmed.IN, 2: Confirmed.OUT, 3: Confirmed.IN}
    )


@pytest.mark.parametrize(
    ("one", "leaves_at_once"),
    [
        (pending(), True),
        (pending(list_ready=False), False),
        (pending(list_ready=False, confirmed=Confirmed.UNKNOWN), True),
        (pending(list_ready=False, confirmed=Confirmed.IN, vars=ADA_VARS), True),
    ],
)
def test_a_call_waits_only_for_the_lists_that_it_names(one: Pending, leaves_at_once: bool) -> None:
    """A list has to be ensured before somebody joins it; a read and vars need none."""
    assert claim(one).leaves_at_once is leaves_at_once


def test_a_claim_shows_no_address_and_no_value() -> None:
    """What is printed by mistake tells nobody who it is."""
    shown = repr(claim(pending(vars=ADA_VARS), leased_until=NOON + timedelta(minutes=1)))

    assert "@" not in shown
    assert "first_name" not in shown
