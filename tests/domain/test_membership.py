"""The call that a membership needs, and the one request that serves all memberships of a member."""

from datetime import timedelta

import pytest

from app.domain.call import Call, Pending, plan
from app.domain.membership import Confirmed, Need, digest
from tests.factories import LIST, NOON, claim, membership, ns, pending

OTHER = "Lytics Lapsed"
ADA_VARS = {"first_name": "Ada"}
NONE: dict[str, object] = {}


@pytest.mark.parametrize(
    ("desired", "confirmed", "vars_", "confirmed_vars", "need"),
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
def test_need_follows_from_desired_and_confirmed(
    desired: bool, confirmed: Confirmed, vars_: dict[str, object], confirmed_vars: str | None, need: Need
) -> None:
    """An exit without a confirmed join needs a read. After an unknown outcome only a join needs a read."""
    assert membership(desired=desired, confirmed=confirmed, vars=vars_, confirmed_vars=confirmed_vars).need is need


@pytest.mark.parametrize(("revision", "confirmed_revision", "is_pending"), [(1, 0, True), (1, 1, False), (0, 0, False)])
def test_membership_is_pending_until_its_revision_is_confirmed(
    revision: int, confirmed_revision: int, is_pending: bool
) -> None:
    assert membership(revision=revision, confirmed_revision=confirmed_revision).is_pending is is_pending


def test_digest_does_not_depend_on_the_order_of_vars() -> None:
    """Lytics sends the fields of a profile in any order."""
    assert digest({"a": 1, "b": "ü"}) == digest({"b": "ü", "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert len(digest({})) == 32


def test_lists_and_vars_of_a_member_are_in_one_call() -> None:
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


def test_confirmed_state_is_settled_without_a_request() -> None:
    call = plan([pending(confirmed=Confirmed.OUT, desired=False)])

    assert call == Call(covers={1: Confirmed.OUT})
    assert not call.is_write


@pytest.mark.parametrize("order", [1, -1])
def test_newer_value_for_one_var_wins(order: int) -> None:
    """Two exports may fill the same var; the message time decides, not the order of the exports."""
    older = pending("a", export_id=2, fields_at_ns=ns(1), vars={"first_name": "Augusta", "city": "London"})
    newer = pending("b", export_id=1, fields_at_ns=ns(2), vars={"first_name": "Ada"})

    assert plan([older, newer][::order]).vars == {"first_name": "Ada", "city": "London"}


def test_one_unknown_membership_makes_the_call_a_read() -> None:
    """Before the read, nothing is written and nothing is covered."""
    call = plan([pending("a", export_id=1), pending("b", export_id=2, confirmed=Confirmed.UNKNOWN)])

    assert call == Call(is_read=True)


@pytest.mark.parametrize(
    ("desired", "confirmed", "vars_", "lists", "expected"),
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
def test_write_after_a_read(
    desired: bool, confirmed: Confirmed, vars_: dict[str, object], lists: frozenset[str] | None, expected: Call
) -> None:
    """An address on the list counts as confirmed. An exit of an unknown address is not written."""
    call = plan([pending(desired=desired, confirmed=confirmed, vars=vars_)], lists, was_read=True)

    assert call == expected


def test_write_after_a_read_carries_everything_pending() -> None:
    memberships = [
        pending("a", export_id=1, confirmed=Confirmed.UNKNOWN),
        pending("b", export_id=2, desired=False, confirmed=Confirmed.UNKNOWN),
        pending("c", export_id=3),
    ]

    assert plan(memberships, frozenset({"a"}), was_read=True) == Call(
        ("c",), ("b",), covers={1: Confirmed.IN, 2: Confirmed.OUT, 3: Confirmed.IN}
    )


@pytest.mark.parametrize(
    ("item", "can_be_sent_now"),
    [
        (pending(), True),
        (pending(list_ready=False), False),
        (pending(list_ready=False, confirmed=Confirmed.UNKNOWN), True),
        (pending(list_ready=False, confirmed=Confirmed.IN, vars=ADA_VARS), True),
    ],
)
def test_call_waits_only_for_the_lists_it_names(item: Pending, can_be_sent_now: bool) -> None:
    """A list must be ensured before a join. A read and a change of vars need no list."""
    assert claim(item).can_be_sent_now is can_be_sent_now


def test_repr_of_a_claim_shows_no_address_and_no_value() -> None:
    shown = repr(claim(pending(vars=ADA_VARS), leased_until=NOON + timedelta(minutes=1)))

    assert "@" not in shown
    assert "first_name" not in shown
