"""Erasure: the remaining state of a membership, and the digests of erased addresses."""

from dataclasses import replace

import pytest

from app.domain.counts import Tally
from app.domain.erasure import Digests, cancel_erasure, erase
from app.domain.membership import Confirmed, Membership
from tests.factories import ADA, ADA_ID, EXPORT, GRACE, NOON, membership

KEY = "key-of-the-erasure-tests"
ERASURE = "digest"


def test_digest_depends_on_the_key_and_on_the_kind_of_value() -> None:
    digests, again, other = Digests(KEY), Digests(KEY), Digests(f"{KEY}s")
    made = [digests.of_address(ADA), digests.of_address(GRACE), digests.of_user(ADA), other.of_address(ADA)]

    assert digests.of_address(ADA) == again.of_address(ADA)
    assert digests.key_id == again.key_id != other.key_id
    assert len(set(made)) == 4
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in made)
    assert len(digests.key_id) == 16


def test_any_text_has_a_digest() -> None:
    assert Digests(KEY).of_user("\ud83d") != Digests(KEY).of_user("\ud83e")


TOLD = membership(confirmed=Confirmed.IN, confirmed_revision=1, vars={"a": 1}, confirmed_vars="digest")
WAITING = membership(revision=4, confirmed_revision=1, confirmed=Confirmed.IN, first_failed_at=NOON)
DEAD = membership(confirmed_revision=1, dead_code="11", dead_at=NOON)
GONE = membership(desired=False, confirmed=Confirmed.OUT, confirmed_revision=1)


@pytest.mark.parametrize(
    ("held", "tally"),
    [
        (TOLD, Tally(members=-1)),
        (WAITING, Tally(pending=-3, erased=3, members=-1)),
        (DEAD, Tally(dead=-1, erased=1, members=-1)),
        (GONE, Tally()),
    ],
)
@pytest.mark.parametrize("leaves", [True, False])
def test_pending_changes_count_as_erased_once(held: Membership, tally: Tally, leaves: bool) -> None:
    counted = Tally()
    erased = replace(held)
    for _ in range(2):
        erase(erased, ERASURE, counted, leaves=leaves)

    assert counted == tally
    assert counted.pending + counted.dead + counted.erased == 0


@pytest.mark.parametrize("held", [TOLD, WAITING, DEAD, GONE])
@pytest.mark.parametrize("leaves", [True, False])
def test_only_the_data_for_the_last_call_is_left(held: Membership, leaves: bool) -> None:
    erased = replace(held)
    erase(erased, ERASURE, Tally(), leaves=leaves)
    bare = Membership(
        export_id=EXPORT,
        address=ADA,
        confirmed=held.confirmed,
        confirmed_at=held.confirmed_at,
        revision=held.revision,
        confirmed_revision=held.revision,
    )

    assert replace(erased, revision=held.revision) == replace(bare, erasure=ERASURE)


@pytest.mark.parametrize(
    ("confirmed", "is_left"),
    [(Confirmed.IN, True), (Confirmed.UNKNOWN, True), (Confirmed.NEVER, True), (Confirmed.OUT, False)],
)
def test_list_is_left_unless_confirmed_out(confirmed: Confirmed, is_left: bool) -> None:
    left, stays = membership(confirmed=confirmed, revision=3), membership(confirmed=confirmed, revision=3)
    erase(left, ERASURE, Tally(), leaves=True)
    erase(stays, ERASURE, Tally(), leaves=False)

    assert left.is_pending == is_left
    assert left.confirmed_revision == 3
    assert not stays.is_pending


def test_leave_can_be_requested_later_and_only_once() -> None:
    held = membership(confirmed=Confirmed.IN)
    for leaves in (False, True, True, False):
        erase(held, ERASURE, Tally(), leaves=leaves)

    assert (held.revision, held.confirmed_revision) == (2, 1)


def test_changes_after_a_lifted_erasure_count_again() -> None:
    held, other = membership(confirmed=Confirmed.IN, lytics_id=ADA_ID), membership()
    erase(held, ERASURE, Tally(), leaves=True)
    cancel_erasure(held)
    cancel_erasure(other)

    assert (held.erasure, held.is_pending, held.desired, held.confirmed) == (None, False, False, Confirmed.IN)
    assert other == membership()
