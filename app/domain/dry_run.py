"""Dry run of a backfill: pages are decided as in a real run, but only their effects are stored, for later pages."""

from enum import StrEnum

from app.domain.change import Move
from app.domain.ledger import Ledger
from app.domain.membership import Membership


class Effect(StrEnum):
    """The effect of a scan on an address.

    `renewed` brings other fields. `confirmed` only repeats a state that Sailthru may not have. The values are stored.
    """

    ENTERED = "entered"
    LEFT = "left"
    RENEWED = "renewed"
    # The value that earlier versions store; the column holds at most 8 characters.
    CONFIRMED = "told"


def assume(ledger: Ledger, export_id: int, address: str, effect: Effect, seen_at_ns: int) -> None:
    """Apply an effect of an earlier page to a ledger, as a change that Sailthru has not confirmed yet."""
    membership = ledger.memberships.setdefault((export_id, address), Membership(export_id=export_id, address=address))
    membership.revision += 1
    if effect is not Effect.CONFIRMED:
        membership.fields_at_ns = seen_at_ns if effect is not Effect.LEFT else None
    if effect in {Effect.ENTERED, Effect.LEFT}:
        membership.desired = effect is Effect.ENTERED
        membership.moved = Move(seen_at_ns, seen_at_ns, membership.desired)
        membership.lytics_id, membership.vars = None, {}


def effects(ledger: Ledger, seen_at_ns: int) -> dict[str, Effect]:
    """Return the effects that a scan with this event time had, by address."""
    found: dict[str, Effect] = {}
    for key in ledger.changed:
        membership = ledger.memberships[key]
        if not membership.desired:
            effect = Effect.LEFT
        elif membership.moved == Move(seen_at_ns, seen_at_ns, is_enter=True):
            effect = Effect.ENTERED
        else:
            effect = Effect.RENEWED if membership.fields_at_ns == seen_at_ns else Effect.CONFIRMED
        found[membership.address] = effect
    return found
