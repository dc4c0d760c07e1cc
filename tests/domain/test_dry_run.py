"""Dry run: the effects of earlier pages and of the current page."""

import pytest

from app.domain.change import Kind, MembershipChange
from app.domain.dry_run import Effect, assume, effects
from app.domain.ledger import Ledger, Verdict
from app.domain.membership import Confirmed, Membership, digest
from tests.factories import ADA, EXPORT, NOON, membership, ns

SEEN_AT_NS = ns(100)
OLD, NEW = {"city": "Turin"}, {"city": "Paris"}


def seen() -> MembershipChange:
    """Return the change of a scan that finds Ada."""
    return MembershipChange(EXPORT, Kind.ENTER, ADA, None, SEEN_AT_NS, SEEN_AT_NS, OLD, by_scan=True)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (None, {ADA: Effect.ENTERED}),
        (membership(desired=False, fields_at_ns=None), {ADA: Effect.ENTERED}),
        (membership(vars=NEW, confirmed=Confirmed.IN, confirmed_revision=1), {ADA: Effect.RENEWED}),
        (membership(vars=OLD, confirmed=Confirmed.UNKNOWN, confirmed_revision=1), {ADA: Effect.CONFIRMED}),
        (membership(vars=OLD, confirmed=Confirmed.IN, confirmed_vars=digest(OLD), confirmed_revision=1), {}),
    ],
)
def test_effect_of_a_scan_follows_from_the_stored_state(held: Membership | None, expected: dict[str, Effect]) -> None:
    ledger = Ledger(NOON)
    if held is not None:
        ledger.memberships[EXPORT, ADA] = held
    ledger.apply(seen())

    assert effects(ledger, SEEN_AT_NS) == expected


@pytest.mark.parametrize("effect", [Effect.ENTERED, Effect.RENEWED, Effect.CONFIRMED])
def test_address_of_an_earlier_page_is_not_counted_again(effect: Effect) -> None:
    ledger = Ledger(NOON)
    if effect is not Effect.ENTERED:
        ledger.memberships[EXPORT, ADA] = membership(vars=OLD, confirmed=Confirmed.IN, confirmed_revision=1)
    assume(ledger, EXPORT, ADA, effect, SEEN_AT_NS)

    assert ledger.apply(seen()) is Verdict.IGNORED


def test_address_that_left_on_an_earlier_page_stays_out() -> None:
    ledger = Ledger(NOON)
    ledger.memberships[EXPORT, ADA] = membership()
    assume(ledger, EXPORT, ADA, Effect.LEFT, SEEN_AT_NS + 1)

    assert ledger.apply(seen()) is Verdict.STALE
    assert not ledger.memberships[EXPORT, ADA].desired
