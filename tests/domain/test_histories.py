"""Whole histories: in any order, with duplicates and calls in between, the newest change wins and the counts add up."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.call import Call, Claim, Pending
from app.domain.change import Kind, MembershipChange
from app.domain.counts import Tally
from app.domain.ledger import Entry, Ledger, Verdict
from app.domain.membership import Confirmed, Need
from app.domain.settlement import settle_attempt
from tests.factories import (
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    LIST,
    LOVELACE,
    NOON,
    Effect,
    after_read,
    change,
    claim,
    enter,
    exit_,
    settlement,
)
from tests.sizes import size

ADDRESSES = (ADA, LOVELACE, GRACE)


def ledger_of(*changes: MembershipChange) -> Ledger:
    ledger = Ledger(NOON)
    for item in changes:
        ledger.apply(item)
    return ledger


def on_list(ledger: Ledger) -> set[str]:
    return {address for (_, address), held in ledger.memberships.items() if held.desired}


def address_at_the_end(history: list[MembershipChange]) -> set[str]:
    """Return the expected result: the newest move decides in or out, the newest message since then the address."""
    last = max((event for event in history if event.kind is not Kind.CHANGE), key=lambda event: event.moved_at_ns or 0)
    if last.kind is Kind.EXIT:
        return set()
    since = [event for event in history if event.kind is Kind.CHANGE and event.message_at_ns > last.message_at_ns]
    newest = max([last, *since], key=lambda event: event.message_at_ns)
    return {newest.address or ""}


@st.composite
def moves(draw: st.DrawFn) -> list[MembershipChange]:
    """Draw enters and exits of one user at distinct times, with any delay; exits may have no address."""
    made: list[MembershipChange] = []
    for at in range(draw(st.integers(1, 6))):
        message = at + draw(st.floats(0.1, 5))
        if draw(st.booleans()):
            made.append(enter(draw(st.sampled_from(ADDRESSES)), at=at, message=message))
        else:
            made.append(exit_(draw(st.sampled_from([None, *ADDRESSES])), at=at, message=message))
    return made


@st.composite
def stays(draw: st.DrawFn) -> list[MembershipChange]:
    """Draw stays of one user in order: an enter, changes of fields and address, and an exit at the end."""
    made: list[MembershipChange] = []
    for _ in range(draw(st.integers(1, 3))):
        made.append(enter(draw(st.sampled_from(ADDRESSES)), at=len(made) * 10))
        for _ in range(draw(st.integers(0, 2))):
            made.append(change(draw(st.sampled_from(ADDRESSES)), message=len(made) * 10 + 1))
        made.append(exit_(draw(st.sampled_from([None, *ADDRESSES])), at=len(made) * 10))
    return made[: draw(st.integers(1, len(made)))]


@settings(deadline=None)
@given(moves(), st.randoms(use_true_random=False))
def test_newest_move_wins_in_any_order_with_duplicates(history: list[MembershipChange], dice: random.Random) -> None:
    """This holds even if messages were made in another order than the moves."""
    arrived = [*history, *dice.sample(history, dice.randint(0, len(history)))]
    dice.shuffle(arrived)
    ledger = ledger_of(*arrived)
    address = next(iter(address_at_the_end(history)), None)

    assert on_list(ledger) == on_list(ledger_of(*history)) == address_at_the_end(history)
    assert ledger.identities[1, ADA_ID].address == address


@settings(deadline=None)
@given(stays(), st.randoms(use_true_random=False))
def test_change_of_address_applies_wherever_it_arrives_after_its_enter(
    history: list[MembershipChange], dice: random.Random
) -> None:
    """A change may arrive late, twice, and between other stays, but not before its own enter."""
    arrived = [*history, *dice.sample(history, dice.randint(0, len(history)))]
    dice.shuffle(arrived)
    waiting: list[MembershipChange] = []
    in_order: list[MembershipChange] = []
    for item in arrived:
        if item.kind is Kind.CHANGE:
            waiting.append(item)
        else:
            in_order.append(item)
        for late in list(waiting):
            own = max(
                (h for h in history if h.kind is Kind.ENTER and h.message_at_ns < late.message_at_ns),
                key=lambda h: h.message_at_ns,
            )
            if own in in_order:
                in_order.append(late)
                waiting.remove(late)
    ledger = ledger_of(*in_order)

    assert on_list(ledger) == on_list(ledger_of(*history)) == address_at_the_end(history)


@dataclass
class World:
    """Users that share addresses, and a worker that calls for them and records every write before it leaves."""

    ledger: Ledger = field(default_factory=lambda: Ledger(NOON))
    in_flight: dict[str, tuple[Claim, Call]] = field(default_factory=dict)

    @property
    def tally(self) -> Tally:
        return self.ledger.tallies.setdefault(1, Tally())

    def take(self, address: str) -> None:
        membership = self.ledger.memberships.get((1, address))
        if membership is None or not membership.is_pending or address in self.in_flight:
            return
        held = claim(Pending(LIST, list_ready=True, membership=membership))
        call = after_read(held) if held.call.is_read else held.call
        if call.join or call.leave:
            membership.confirmed = Confirmed.UNKNOWN
        if call.is_write:
            membership.confirmed_vars = None
        self.in_flight[address] = held, call

    def end(self, address: str, effect: Effect, *, is_given_up: bool) -> None:
        if address in self.in_flight:
            held, call = self.in_flight.pop(address)
            dead = {1: "11"} if is_given_up and effect is not Effect.CONFIRMED else {}
            ended = settlement(held, effect, call=call, dead=dead, is_spent=effect is not Effect.CONFIRMED)
            settle_attempt(ended, self.ledger.memberships[1, address], NOON, self.tally)

    def check(self) -> None:
        held = self.ledger.memberships.values()
        tally = self.tally

        assert tally.accepted == tally.delivered + tally.superseded + tally.pending + tally.dead
        assert tally.pending == sum(membership.revision - membership.confirmed_revision for membership in held)
        assert tally.dead == sum(membership.dead_code is not None for membership in held)
        assert tally.members == sum(membership.desired for membership in held)
        assert tally.accepted == sum(membership.revision for membership in held)
        for membership in held:
            is_done = (
                not membership.is_pending and membership.dead_code is None and membership.address not in self.in_flight
            )
            assert not is_done or membership.need is Need.NOTHING


addresses = st.sampled_from(ADDRESSES)
ids = st.sampled_from([None, ADA_ID, GRACE_ID])
times = st.integers(0, 20)
some_vars = st.sampled_from([{}, {"a": 1}, {"a": 2}])
happenings = st.one_of(
    st.builds(enter, addresses, at=times, message=times, lytics_id=ids, vars=some_vars),
    st.builds(exit_, addresses, at=times, message=times, lytics_id=ids),
    st.builds(exit_, st.none(), at=times, message=times, lytics_id=st.sampled_from([ADA_ID, GRACE_ID])),
    st.builds(change, addresses, message=times, lytics_id=ids, vars=some_vars),
    addresses,
    st.tuples(addresses, st.sampled_from(Effect), st.booleans()),
)


@settings(deadline=None, max_examples=size(60, 200))
@given(st.lists(happenings, max_size=40))
def test_counts_add_up_after_each_step(steps: list[MembershipChange | str | tuple[str, Effect, bool]]) -> None:
    """Changes arrive in any order, and calls end in every way. A membership that is not pending needs no call."""
    world = World()
    for step in steps:
        if isinstance(step, MembershipChange):
            world.ledger.apply(step)
        elif isinstance(step, str):
            world.take(step)
        else:
            world.end(step[0], step[1], is_given_up=step[2])
        world.check()


@given(st.lists(happenings, max_size=20))
def test_user_never_holds_two_addresses(steps: list[object]) -> None:
    """The list has the last address of the user, or none."""
    ledger = Ledger(NOON)
    for step in steps:
        if isinstance(step, MembershipChange):
            ledger.apply(step._replace(lytics_id=ADA_ID))

    assert on_list(ledger) == {
        identity.address for identity in ledger.identities.values() if identity.address is not None
    }


def test_change_of_address_counts_for_both_addresses() -> None:
    """One address leaves and one joins: there are two changes and one member."""
    ledger = ledger_of(enter(ADA, at=1), enter(LOVELACE, at=2))

    assert ledger.tallies[1] == Tally(accepted=3, pending=3, members=1)
    assert ledger.memberships[1, ADA].revision == 2
    assert ledger.memberships[1, LOVELACE].revision == 1


def test_late_stay_does_not_override_a_newer_exit() -> None:
    """Both moves of the stay are counted as stale."""
    ledger = ledger_of(exit_(None, at=9), enter(LOVELACE, at=1), exit_(LOVELACE, at=2))

    assert on_list(ledger) == set()
    assert ledger.tallies[1] == Tally(stale=2)


def test_timeline_shows_stale_and_ignored_changes() -> None:
    """They explain why an address is not on the list."""
    ledger = ledger_of(enter(ADA, at=5), exit_(ADA, at=1), change(GRACE, message=6, lytics_id=None), exit_(None, at=2))

    assert ledger.entries == [
        Entry(1, ADA, Kind.ENTER, Verdict.ACCEPTED, enter(at=5).moved_at_ns, clock_corrected=False, by_scan=False),
        Entry(1, ADA, Kind.EXIT, Verdict.STALE, exit_(at=1).moved_at_ns, clock_corrected=False, by_scan=False),
        Entry(1, GRACE, Kind.CHANGE, Verdict.IGNORED, None, clock_corrected=False, by_scan=False),
    ]


def test_timeline_shows_a_corrected_clock() -> None:
    """The corrected time explains the order of changes."""
    ledger = ledger_of(enter(clock_corrected=True))

    assert [entry.clock_corrected for entry in ledger.entries] == [True]


def test_exit_of_an_unknown_address_needs_a_read() -> None:
    """The address may have been added by hand, or before this service ran."""
    ledger = ledger_of(exit_(at=1))

    assert ledger.memberships[1, ADA].need is Need.READ
    assert ledger.tallies[1] == Tally(accepted=1, pending=1)


def test_each_export_has_its_own_counts() -> None:
    """One address in two exports is two memberships and two identities."""
    ledger = ledger_of(enter(at=1, export_id=1), enter(at=1, export_id=2), exit_(at=2, export_id=2))

    assert {key: held.desired for key, held in ledger.memberships.items()} == {(1, ADA): True, (2, ADA): False}
    assert (ledger.tallies[1].members, ledger.tallies[2].members) == (1, 0)


@pytest.mark.parametrize("end", [{"effect": Effect.CONFIRMED}, {"effect": Effect.NONE, "dead": {1: "11"}}])
def test_change_settled_during_the_call_is_not_counted_again(end: dict[str, Any]) -> None:
    """The vars were removed while the call was under way, so nothing was pending when it ended."""
    ledger = ledger_of(enter(at=1))
    held = ledger.memberships[1, ADA]
    held.confirmed = Confirmed.IN
    ledger.apply(change(message=5, vars={"a": 1}))
    claimed = claim(Pending(LIST, list_ready=True, membership=held))
    ledger.apply(change(message=6))
    counted = replace(ledger.tallies[1])
    settle_attempt(settlement(claimed, **end), held, NOON, ledger.tallies[1])

    assert not held.is_pending
    assert held.dead_code is None
    assert ledger.tallies[1] == counted


def test_change_does_not_join_an_address_that_another_user_moved_later() -> None:
    """The old address leaves anyway, since the user no longer has it."""
    ledger = ledger_of(
        enter(LOVELACE, at=8, lytics_id=GRACE_ID),
        exit_(LOVELACE, at=9, lytics_id=GRACE_ID),
        enter(ADA, at=1),
        change(LOVELACE, message=20),
    )

    assert on_list(ledger) == set()
    assert ledger.identities[1, ADA_ID].address == LOVELACE
