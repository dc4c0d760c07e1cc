"""Ledger: the winning change, its effects, and the settlement of attempts."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.call import Call, Claim, Pending
from app.domain.change import Kind, MembershipChange
from app.domain.counts import Tally
from app.domain.ledger import Ledger, Verdict
from app.domain.membership import Confirmed, Membership
from app.domain.settlement import settle_attempt
from tests.changes import change, enter, exit_
from tests.factories import ADA, ADA_ID, NOON, Effect, settlement
from tests.sizes import size

OLD, NEW = "old@example.com", "new@example.com"


def ledger_of(*changes: MembershipChange) -> Ledger:
    ledger = Ledger(NOON)
    for item in changes:
        ledger.apply(item)
    return ledger


def on_list(ledger: Ledger) -> set[str]:
    return {address for (_, address), held in ledger.memberships.items() if held.desired}


def confirm_all(ledger: Ledger) -> None:
    """Let Sailthru confirm everything."""
    for membership in ledger.memberships.values():
        membership.confirmed = Confirmed.IN if membership.desired else Confirmed.OUT
        membership.confirmed_revision = membership.revision


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([enter(at=2), exit_(at=1)], {ADA}, id="a late exit does not undo a newer enter"),
        pytest.param([exit_(at=2), enter(at=1)], set(), id="a late enter does not undo a newer exit"),
        pytest.param([exit_(at=1), enter(at=1)], {ADA}, id="at one time the exit comes first"),
        pytest.param([enter(at=1), exit_(at=1)], {ADA}, id="in any order of arrival"),
        pytest.param([enter(at=1), exit_(at=1, sent=2)], set(), id="at one event time the newer message decides"),
        pytest.param([enter(OLD, at=1), enter(NEW, at=2)], {NEW}, id="a newer enter changes the address"),
        pytest.param([enter(NEW, at=2), enter(OLD, at=1)], {NEW}, id="an older enter under the old address is stale"),
        pytest.param([enter(OLD, at=1), change(NEW, at=2)], {NEW}, id="a change changes the address too"),
        pytest.param([enter(OLD, at=2), change(NEW, at=1)], {OLD}, id="but not an older change"),
        pytest.param(
            [enter(OLD, at=1), change(OLD, at=3), change(NEW, at=2)], {OLD}, id="nor one older than the newest fields"
        ),
        pytest.param([enter(OLD, at=1), exit_(NEW, at=2)], set(), id="an exit under the new address finds the old one"),
        pytest.param([enter(at=1), exit_(None, at=2)], set(), id="an exit without an address finds it by id"),
        pytest.param([exit_(None, at=2), enter(at=1)], set(), id="an exit first makes the older enter stale"),
        pytest.param([exit_(NEW, at=2), enter(OLD, at=1)], set(), id="under any address"),
        pytest.param(
            [enter(OLD, at=1), change(NEW, at=5), exit_(NEW, at=3, sent=4)],
            set(),
            id="a change does not override an exit after the enter",
        ),
        pytest.param([enter(lytics_id="1", at=1), exit_(lytics_id="2", at=2)], set(), id="newest wins for an address"),
        pytest.param(
            [enter(OLD, lytics_id="1", at=1), enter(OLD, lytics_id="2", at=2), enter(NEW, lytics_id="1", at=3)],
            {OLD, NEW},
            id="an address that another user has entered since stays",
        ),
        pytest.param([enter(lytics_id=None, at=1), exit_(lytics_id=None, at=2)], set(), id="without ids by address"),
        pytest.param([enter(lytics_id=None, at=2), exit_(lytics_id=None, at=1)], {ADA}, id="and by time"),
        pytest.param([change(at=1)], set(), id="a change of an unknown user is ignored"),
        pytest.param([enter(at=1), exit_(at=2), change(at=3)], set(), id="a change of a user who left is ignored"),
    ],
)
def test_list_ends_as_the_newest_change_says(changes: list[MembershipChange], expected: set[str]) -> None:
    assert on_list(ledger_of(*changes)) == expected


@pytest.mark.parametrize(
    ("held", "late", "verdict"),
    [
        ([enter(at=1)], enter(at=1), Verdict.STALE),
        ([enter(at=2)], exit_(at=1), Verdict.STALE),
        ([enter(at=1)], enter(at=1, sent=2), Verdict.ACCEPTED),
        ([enter(at=3, sent=3)], enter(at=1, sent=4), Verdict.ACCEPTED),
        ([enter(at=3)], enter(NEW, at=1), Verdict.STALE),
        ([enter(at=1)], change(at=1), Verdict.STALE),
        ([enter(at=1)], change(at=2), Verdict.ACCEPTED),
        ([enter(at=1)], change(None, at=2), Verdict.ACCEPTED),
        ([enter(at=1), exit_(at=2)], change(at=3), Verdict.IGNORED),
        ([enter(at=1), exit_(at=2)], change(None, at=3), Verdict.IGNORED),
        ([], change(at=1), Verdict.IGNORED),
        ([], change(None, at=1), Verdict.IGNORED),
        ([], exit_(None, at=1), Verdict.ACCEPTED),
        ([enter(lytics_id=None, at=1)], change(lytics_id=None, at=2), Verdict.ACCEPTED),
        ([enter(lytics_id=None, at=2)], enter(lytics_id=None, at=1), Verdict.STALE),
        ([enter(at=1), exit_(lytics_id=None, at=2)], change(at=3), Verdict.IGNORED),
    ],
)
def test_duplicates_and_older_changes_are_stale(
    held: list[MembershipChange], late: MembershipChange, verdict: Verdict
) -> None:
    """A `change` of a user who is not on the list is ignored."""
    assert ledger_of(*held).apply(late) is verdict


def test_fields_follow_the_message_time_and_end_with_an_exit() -> None:
    ledger = ledger_of(enter(at=1, vars={"a": 1}), change(at=3, vars={"a": 3}), change(at=2, vars={"a": 2}))
    membership = ledger.memberships[1, ADA]
    newest = dict(membership.vars)
    ledger.apply(exit_(at=4))
    after_exit = dict(membership.vars)
    ledger.apply(enter(at=5, vars={"a": 5}))

    assert (newest, after_exit, dict(membership.vars)) == ({"a": 3}, {}, {"a": 5})


def test_change_that_needs_no_call_is_settled_at_once() -> None:
    """A newer enter of a confirmed member, and an exit followed by an enter, cost no call."""
    ledger = ledger_of(enter(at=1))
    confirm_all(ledger)
    ledger.tallies.clear()
    ledger.apply(enter(at=2))
    ledger.apply(exit_(at=3))
    pending = [ledger.memberships[1, ADA].is_pending]
    ledger.apply(enter(at=4))
    pending.append(ledger.memberships[1, ADA].is_pending)

    assert pending == [True, False]
    assert ledger.tallies[1] == Tally(accepted=3, delivered=2, superseded=1)


def test_newer_change_supersedes_a_dead_letter() -> None:
    ledger = ledger_of(enter(at=1))
    membership = ledger.memberships[1, ADA]
    membership.confirmed_revision, membership.dead_code = 1, "11"
    ledger.tallies.clear()
    ledger.apply(exit_(at=2))

    assert ledger.memberships[1, ADA].dead_code is None
    assert ledger.memberships[1, ADA].is_pending
    assert ledger.tallies[1] == Tally(accepted=1, superseded=1, dead=-1, pending=1, members=-1)


def test_enter_without_a_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="time it happened"):
        Ledger(NOON).apply(enter()._replace(moved_at_ns=None))


histories = st.lists(
    st.tuples(st.sampled_from([Kind.ENTER, Kind.EXIT]), st.sampled_from([OLD, NEW, ADA])), min_size=1, max_size=6
)


@settings(max_examples=size(100, 300), deadline=None)
@given(history=histories, dice=st.randoms(use_true_random=False))
def test_last_move_decides_in_any_order_with_duplicates(history: list[tuple[Kind, str]], dice: random.Random) -> None:
    """The moves of one user have distinct times, and are shuffled and duplicated. The user has at most one address."""
    changes = [
        enter(address, at=at) if kind is Kind.ENTER else exit_(address, at=at)
        for at, (kind, address) in enumerate(history)
    ]
    shuffled = changes + changes
    dice.shuffle(shuffled)
    kind, address = history[-1]
    ledger = ledger_of(*shuffled)
    tally = ledger.tallies[1]

    assert on_list(ledger) == ({address} if kind is Kind.ENTER else set())
    assert tally.accepted == tally.delivered + tally.superseded + tally.pending + tally.dead
    assert tally.pending == sum(m.revision - m.confirmed_revision for m in ledger.memberships.values())
    assert tally.members == len(on_list(ledger))


def attempt(
    effect: Effect,
    *,
    newer: bool = False,
    confirmed: Confirmed = Confirmed.NEVER,
    dead: bool = False,
    spent: bool = False,
) -> tuple[Membership, Tally]:
    """End a join that was claimed at revision 1. With `newer`, an exit arrived meanwhile."""
    claimed = Membership(
        export_id=1, address=ADA, desired=True, confirmed=confirmed, revision=1, vars={"a": 1}, confirmed_vars="before"
    )
    now = replace(claimed, confirmed=Confirmed.UNKNOWN, confirmed_vars=None)
    if newer:
        now = replace(now, desired=False, revision=2)
    call = Call(join=("Lytics X",), covers={1: Confirmed.IN})
    claim = Claim(1, "default", ADA, 7, NOON, 1, (Pending("Lytics X", True, claimed),))
    tally = Tally()
    ended = settlement(claim, effect, call=call, is_spent=spent, dead={1: "11"} if dead else {})
    settle_attempt(ended, now, NOON, tally)
    return now, tally


def test_confirmed_attempt_settles_what_was_claimed() -> None:
    """The digest of the confirmed vars is stored."""
    membership, tally = attempt(Effect.CONFIRMED)

    assert (membership.confirmed, membership.confirmed_at, membership.is_pending) == (Confirmed.IN, NOON, False)
    assert not membership.has_new_vars
    assert tally == Tally(delivered=1, pending=-1)


def test_change_during_the_call_stays_pending() -> None:
    """Only the claimed revision is settled."""
    membership, tally = attempt(Effect.CONFIRMED, newer=True)

    assert (membership.confirmed, membership.is_pending, membership.confirmed_revision) == (Confirmed.IN, True, 1)
    assert tally == Tally(delivered=1, pending=-1)


@pytest.mark.parametrize(("effect", "confirmed"), [(Effect.NONE, Confirmed.OUT), (Effect.UNKNOWN, Confirmed.UNKNOWN)])
def test_failed_attempt_leaves_the_change_pending(effect: Effect, confirmed: Confirmed) -> None:
    """The confirmed state is restored if the call was certainly not carried out. Otherwise it stays unknown."""
    membership, tally = attempt(effect, confirmed=Confirmed.OUT, spent=True)

    assert (membership.confirmed, membership.is_pending, membership.first_failed_at) == (confirmed, True, NOON)
    assert tally == Tally()


def test_dead_letter_is_kept_unless_a_newer_change_came() -> None:
    """Only the claimed change becomes a dead letter."""
    dead, dead_tally = attempt(Effect.NONE, dead=True)
    newer, newer_tally = attempt(Effect.NONE, dead=True, newer=True)

    assert (dead.dead_code, dead.is_pending, dead_tally) == ("11", False, Tally(dead=1, pending=-1))
    assert (newer.dead_code, newer.is_pending, newer_tally) == (None, True, Tally(superseded=1, pending=-1))


def arriving(item: MembershipChange) -> MembershipChange:
    """Mark the times of a change as those of its arrival."""
    return item._replace(moved_on_arrival=True, message_on_arrival=True, clock_corrected=True)


@pytest.mark.parametrize("lytics_id", [ADA_ID, None])
def test_arrival_under_a_slow_clock_is_later_than_earlier_arrivals(lytics_id: str | None) -> None:
    """Our clock was set back by an hour, so the arrival of the exit is before the enter."""
    held = enter(at=3600, lytics_id=lytics_id, vars={"a": 1})
    left = ledger_of(held, arriving(exit_(at=10, lytics_id=lytics_id)))
    again = ledger_of(held, arriving(exit_(at=10, lytics_id=lytics_id)), arriving(enter(at=11, lytics_id=lytics_id)))
    changed = ledger_of(held, arriving(change(at=12, lytics_id=lytics_id, vars={"a": 2}))._replace(moved_at_ns=None))

    assert on_list(left) == set()
    assert on_list(again) == {ADA}
    assert changed.memberships[1, ADA].vars == {"a": 2}


def test_known_event_time_counts_beside_an_arrival_time() -> None:
    """The exit has its own event time. Only its message time is the arrival time."""
    late = exit_(at=5, sent=5)._replace(message_on_arrival=True)

    assert on_list(ledger_of(enter(at=10), late)) == {ADA}
