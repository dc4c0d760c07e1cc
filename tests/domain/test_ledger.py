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

OLD, NEW = "old@example.com", "new@example.com"


def ledger_of(*changes: MembershipChange) -> Ledger:
    ledger = Ledger(NOON)
    for one in changes:
        ledger.apply(one)
    return ledger


def wanted(ledger: Ledger) -> set[str]:
    return {address for (_, address), held in ledger.memberships.items() if held.desired}


def tell_all(ledger: Ledger) -> None:
    """Sailthru was told everything."""
    for membership in ledger.memberships.values():
        membership.confirmed = Confirmed.IN if membership.desired else Confirmed.OUT
        membership.confirmed_revision = membership.revision


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([enter(at=2), exit_(at=1)], {ADA}, id="a late exit does not undo a newer enter"),
        pytest.param([exit_(at=2), enter(at=1)], set(), id="a late enter does not undo a newer exit"),
        pytest.param([exit_(at=1), enter(at=1)], {ADA}, id="at one time the exit comes first"),
        pytest.param([enter(at=1), exit_(at=1)], {ADA}, id="whatever the order of arrival"),
        pytest.param([enter(at=1), exit_(at=1, sent=2)], set(), id="at one event time the newer message decides"),
        pytest.param([enter(OLD, at=1), enter(NEW, at=2)], {NEW}, id="a newer enter moves the person"),
        pytest.param([enter(NEW, at=2), enter(OLD, at=1)], {NEW}, id="an older enter under the old address is stale"),
        pytest.param([enter(OLD, at=1), change(NEW, at=2)], {NEW}, id="a change moves the person too"),
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
            id="a change can't beat an exit that happened after the enter",
        ),
        pytest.param([enter(lytics_id="1", at=1), exit_(lytics_id="2", at=2)], set(), id="newest wins for an address"),
        pytest.param(
            [enter(OLD, lytics_id="1", at=1), enter(OLD, lytics_id="2", at=2), enter(NEW, lytics_id="1", at=3)],
            {OLD, NEW},
            id="an address that somebody else has entered since stays",
        ),
        pytest.param([enter(lytics_id=None, at=1), exit_(lytics_id=None, at=2)], set(), id="without ids by address"),
        pytest.param([enter(lytics_id=None, at=2), exit_(lytics_id=None, at=1)], {ADA}, id="and by time"),
        pytest.param([change(at=1)], set(), id="a change of a stranger moves nobody"),
        pytest.param([enter(at=1), exit_(at=2), change(at=3)], set(), id="nor of somebody who has left"),
    ],
)
def test_the_newest_change_wins(changes: list[MembershipChange], expected: set[str]) -> None:
    """The list ends as the newest change says."""
    assert wanted(ledger_of(*changes)) == expected


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
def test_a_verdict_tells_what_became_of_a_change(
    held: list[MembershipChange], late: MembershipChange, verdict: Verdict
) -> None:
    """Duplicates and older changes are stale; a change of nobody on the list is ignored."""
    assert ledger_of(*held).apply(late) is verdict


def test_fields_follow_the_message_time_and_leave_with_the_person() -> None:
    """The newest message decides the fields, an exit drops them, an enter brings its own."""
    ledger = ledger_of(enter(at=1, vars={"a": 1}), change(at=3, vars={"a": 3}), change(at=2, vars={"a": 2}))
    membership = ledger.memberships[1, ADA]
    newest = dict(membership.vars)
    ledger.apply(exit_(at=4))
    after_exit = dict(membership.vars)
    ledger.apply(enter(at=5, vars={"a": 5}))

    assert (newest, after_exit, dict(membership.vars)) == ({"a": 3}, {}, {"a": 5})


def test_what_leaves_nothing_to_say_is_settled_at_once() -> None:
    """A newer enter of somebody who was told in, and a flap that ends where it began, cost no call."""
    ledger = ledger_of(enter(at=1))
    tell_all(ledger)
    ledger.tallies.clear()
    ledger.apply(enter(at=2))
    ledger.apply(exit_(at=3))
    pending = [ledger.memberships[1, ADA].is_pending]
    ledger.apply(enter(at=4))
    pending.append(ledger.memberships[1, ADA].is_pending)

    assert pending == [True, False]
    assert ledger.tallies[1] == Tally(accepted=3, delivered=2, superseded=1)


def test_a_newer_change_replaces_a_dead_letter() -> None:
    """The dead change becomes superseded, and the new one is pending."""
    ledger = ledger_of(enter(at=1))
    membership = ledger.memberships[1, ADA]
    membership.confirmed_revision, membership.dead_code = 1, "11"
    ledger.tallies.clear()
    ledger.apply(exit_(at=2))

    assert ledger.memberships[1, ADA].dead_code is None
    assert ledger.memberships[1, ADA].is_pending
    assert ledger.tallies[1] == Tally(accepted=1, superseded=1, dead=-1, pending=1, members=-1)


def test_an_enter_needs_its_time() -> None:
    """A move without a time is a mistake of ours."""
    with pytest.raises(ValueError, match="time it happened"):
        Ledger(NOON).apply(enter()._replace(moved_at_ns=None))


histories = st.lists(
    st.tuples(st.sampled_from([Kind.ENTER, Kind.EXIT]), st.sampled_from([OLD, NEW, ADA])), min_size=1, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(history=histories, dice=st.randoms(use_true_random=False))
def test_any_order_with_duplicates_ends_as_the_history_did(
    history: list[tuple[Kind, str]], dice: random.Random
) -> None:
    """One user's moves at distinct times, shuffled and doubled: the last one decides, and one address is held at
    most.
    """
    changes = [
        enter(address, at=at) if kind is Kind.ENTER else exit_(address, at=at)
        for at, (kind, address) in enumerate(history)
    ]
    shuffled = changes + changes
    dice.shuffle(shuffled)
    kind, address = history[-1]
    ledger = ledger_of(*shuffled)
    tally = ledger.tallies[1]

    assert wanted(ledger) == ({address} if kind is Kind.ENTER else set())
    assert tally.accepted == tally.delivered + tally.superseded + tally.pending + tally.dead
    assert tally.pending == sum(m.revision - m.confirmed_revision for m in ledger.memberships.values())
    assert tally.members == len(wanted(ledger))


def attempt(
    effect: Effect,
    *,
    newer: bool = False,
    confirmed: Confirmed = Confirmed.NEVER,
    dead: bool = False,
    spent: bool = False,
) -> tuple[Membership, Tally]:
    """A join that was claimed at revision 1 and ended; with `newer`, an exit came meanwhile."""
    claimed = Membership(
        export_id=1, address=ADA, desired=True, confirmed=confirmed, revision=1, vars={"a": 1}, confirmed_vars="before"
    )
    now = replace(claimed, confirmed=Confirmed.UNKNOWN, confirmed_vars=None)
    if newer:
        now = replace(now, desired=False, revision=2)
    call = Call(join=("Lytics X",), covers={1: Confirmed.IN})
    claim = Claim(1, "default", ADA, 7, NOON, 1, (Pending("Lytics X", True, claimed),), call)
    tally = Tally()
    ended = settlement(claim, effect, is_spent=spent, dead={1: "11"} if dead else {})
    settle_attempt(ended, now, NOON, tally)
    return now, tally


def test_a_told_attempt_settles_what_was_claimed() -> None:
    """One change is delivered, and the digest of what was told is kept."""
    membership, tally = attempt(Effect.TOLD)

    assert (membership.confirmed, membership.confirmed_at, membership.is_pending) == (Confirmed.IN, NOON, False)
    assert not membership.has_new_vars
    assert tally == Tally(delivered=1, pending=-1)


def test_a_change_that_came_during_the_call_stays_pending() -> None:
    """Settled is the revision that was claimed, not the one that is there now."""
    membership, tally = attempt(Effect.TOLD, newer=True)

    assert (membership.confirmed, membership.is_pending, membership.confirmed_revision) == (Confirmed.IN, True, 1)
    assert tally == Tally(delivered=1, pending=-1)


@pytest.mark.parametrize(("effect", "confirmed"), [(Effect.NONE, Confirmed.OUT), (Effect.UNKNOWN, Confirmed.UNKNOWN)])
def test_a_failed_attempt_leaves_the_change_pending(effect: Effect, confirmed: Confirmed) -> None:
    """What was surely not carried out is put back; what may have been stays unknown."""
    membership, tally = attempt(effect, confirmed=Confirmed.OUT, spent=True)

    assert (membership.confirmed, membership.is_pending, membership.first_failed_at) == (confirmed, True, NOON)
    assert tally == Tally()


def test_a_dead_letter_is_kept_unless_a_newer_change_came() -> None:
    """Given up is the claimed change alone."""
    dead, dead_tally = attempt(Effect.NONE, dead=True)
    newer, newer_tally = attempt(Effect.NONE, dead=True, newer=True)

    assert (dead.dead_code, dead.is_pending, dead_tally) == ("11", False, Tally(dead=1, pending=-1))
    assert (newer.dead_code, newer.is_pending, newer_tally) == (None, True, Tally(superseded=1, pending=-1))


def arriving(one: MembershipChange) -> MembershipChange:
    """The same, with the times of its arrival in place of its own."""
    return one._replace(moved_on_arrival=True, message_on_arrival=True, clock_corrected=True)


@pytest.mark.parametrize("lytics_id", [ADA_ID, None])
def test_what_arrives_while_our_clock_is_behind_comes_after_what_arrived_before(lytics_id: str | None) -> None:
    """Our clock was set back by an hour, so that the exit seems to come from the future, and its arrival lies before
    the enter.
    """
    held = enter(at=3600, lytics_id=lytics_id, vars={"a": 1})
    left = ledger_of(held, arriving(exit_(at=10, lytics_id=lytics_id)))
    again = ledger_of(held, arriving(exit_(at=10, lytics_id=lytics_id)), arriving(enter(at=11, lytics_id=lytics_id)))
    changed = ledger_of(held, arriving(change(at=12, lytics_id=lytics_id, vars={"a": 2}))._replace(moved_at_ns=None))

    assert wanted(left) == set()
    assert wanted(again) == {ADA}
    assert changed.memberships[1, ADA].vars == {"a": 2}


def test_a_time_of_its_own_is_believed_beside_an_arrival() -> None:
    """Only what is not known is put in order: the exit has its own time, the fields have only that of their arrival."""
    late = exit_(at=5, sent=5)._replace(message_on_arrival=True)

    assert wanted(ledger_of(enter(at=10), late)) == {ADA}
