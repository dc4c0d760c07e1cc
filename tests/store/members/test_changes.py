"""Applying changes: stored rows, due members, and many webhooks at once."""

import asyncio

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from app.domain.ledger import Verdict
from app.domain.membership import Confirmed
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members import rows
from app.store.members.members import Members
from app.store.schema import identities
from app.store.schema import members as members_table
from tests.factories import (
    ACCOUNT,
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    LOVELACE,
    MINUTE,
    NOON,
    Clock,
    change,
    enter,
    exit_,
    membership,
    move,
    ns,
    room,
    settlement,
)
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held


async def test_stored_change_is_read_back_unchanged(members: Members, running: Running) -> None:
    """Nanoseconds, vars and times are stored exactly."""
    await running("A")
    await members.apply([enter(at=0.000_001, message=2, vars={"name": "Ä", "n": [1, None], "ok": True})])
    kept = await held(members, ADA)

    assert kept == membership(
        moved=move(0.000_001, 2), fields_at_ns=ns(2), vars={"name": "Ä", "n": [1, None], "ok": True}
    )


async def test_each_webhook_gets_the_verdicts_of_its_own_changes(members: Members, running: Running) -> None:
    """The webhooks share a transaction, and a change of one makes a change of another stale."""
    await running("A")
    first, second, third = await asyncio.gather(
        members.apply([enter(at=1), enter(at=1)]),
        members.apply([]),
        members.apply([exit_(at=0), change(GRACE, message=5, lytics_id=None), exit_(at=2)]),
    )

    assert first.verdicts == (Verdict.ACCEPTED, Verdict.STALE)
    assert second.verdicts == ()
    assert third.verdicts == (Verdict.STALE, Verdict.IGNORED, Verdict.ACCEPTED)


async def test_new_member_without_pending_change_is_released(members: Members, running: Running) -> None:
    """A late enter has an unknown address, but its user has entered under another one since."""
    await running("A")
    await members.apply([enter(ADA, at=2)])
    (claim,) = await members.claim(ACCOUNT, capacity=room(9), lease_for=MINUTE)
    await members.settle(settlement(claim))
    kept = await members.apply([enter(GRACE, at=1)])
    claims = await members.claim(ACCOUNT, capacity=room(9), lease_for=MINUTE)

    assert kept.verdicts == (Verdict.STALE,)
    assert claims == []
    assert await members.next_due_at(ACCOUNT) is None


async def test_changes_of_one_user_are_applied_in_order_of_arrival(
    members: Members, running: Running, exports: Exports, database: Database
) -> None:
    """Transactions run side by side, but the order matters for changes with only an arrival time and for new fields."""
    await running("A")
    people = [f"p{n}@example.com" for n in range(120)]

    enters = [enter(address, at=1, lytics_id=address, on_arrival=True) for address in people]
    changes = [change(address, message=5, lytics_id=address, vars={"city": "Paris"}) for address in people[:60]]
    exits = [exit_(address, at=3, lytics_id=address)._replace(moved_on_arrival=True) for address in people[60:]]
    kept = await asyncio.gather(*(members.apply([item]) for item in [*enters, *changes, *exits]))
    await assert_all_adds_up(database, exports)
    stayed = [await held(members, address) for address in people[:60]]
    left = [await held(members, address) for address in people[60:]]

    assert {verdict for result in kept for verdict in result.verdicts} == {Verdict.ACCEPTED}
    assert all(member.desired and member.vars == {"city": "Paris"} for member in stayed)
    assert not any(member.desired for member in left)


async def test_webhooks_at_one_moment_share_a_commit(database: Database, clock: Clock, running: Running) -> None:
    """The metrics get the number of webhooks."""
    await running("A")
    commits: list[tuple[str, int]] = []
    members = Members(database, clock, on_commit=lambda what, size: commits.append((what, size)))
    await asyncio.gather(*(members.apply([enter(f"p{n}@example.com", lytics_id=str(n))]) for n in range(20)))

    assert commits == [("keep", 20)]


async def test_change_that_cannot_be_stored_fails_only_its_own_webhook(
    members: Members, exports: Exports, running: Running, database: Database
) -> None:
    """The time of the change does not fit into the column."""
    await running("A")
    too_far = [enter(GRACE, lytics_id=GRACE_ID, at=10**10)]
    results = await asyncio.gather(
        members.apply([enter()]),
        members.apply(too_far),
        members.apply([enter(LOVELACE, lytics_id="3")]),
        return_exceptions=True,
    )
    await assert_all_adds_up(database, exports)

    assert isinstance(results[1], OverflowError | DBAPIError)
    assert (await counts(exports))["members"] == 2
    assert await members.find_by_address(GRACE) == []


async def test_account_is_due_only_if_a_call_is_needed(members: Members, exports: Exports, running: Running) -> None:
    """A stale change and a change for a paused export need no call."""
    await running("A")
    nameless = await exports.start("B", audience_slug="b", account="other")
    due = [
        (await members.apply([item])).due_accounts
        for item in (enter(at=2), exit_(at=1), enter(GRACE, lytics_id=GRACE_ID, export_id=nameless.id))
    ]

    assert due == [{ACCOUNT}, frozenset(), frozenset()]


async def test_change_that_needs_no_call_makes_no_member_due(
    members: Members, exports: Exports, running: Running
) -> None:
    """An exit of a member that is confirmed `out` is settled in the transaction that stores it."""
    await running("A")
    await members.apply([enter(at=1)])
    await settle_as(members, exports, "out")
    kept = await members.apply([exit_(at=3)])

    assert kept == type(kept)((Verdict.ACCEPTED,), frozenset())
    assert await members.next_due_at(ACCOUNT) is None


async def settle_as(members: Members, exports: Exports, confirmed: str) -> None:
    """Store all memberships as confirmed in this state."""

    def settle(connection: Connection) -> None:
        connection.execute(text("update memberships set told = :told, told_revision = revision"), {"told": confirmed})
        connection.execute(text("update totals set delivered = accepted, pending = 0"))
        connection.execute(text("update members set due_at = null"))

    await exports._database.write(settle)


async def test_newer_change_leaves_the_due_time_of_a_retry(
    members: Members, running: Running, database: Database, clock: Clock
) -> None:
    await running("A")
    await members.apply([enter(at=1)])
    later = members_table.update().values(due_at=NOON + MINUTE, attempts=3)
    await database.write(lambda connection: connection.execute(later))
    await members.apply([exit_(at=2)])

    assert await members.next_due_at(ACCOUNT) == NOON + MINUTE
    assert [report.attempts for report in await members.find_by_address(ADA)] == [3]


async def test_user_holds_one_address_across_transactions(
    members: Members, exports: Exports, running: Running, database: Database
) -> None:
    """An exit without an address finds the user's address by the Lytics id."""
    await running("A")
    for item in (enter(ADA, at=1), change(LOVELACE, message=5), exit_(None, at=7), enter(GRACE, at=6)):
        await members.apply([item])
    await assert_all_adds_up(database, exports)
    held_now = [(await held(members, address)).desired for address in (ADA, LOVELACE)]

    assert held_now == [False, False]
    assert "members" not in await counts(exports)
    (row,) = await database.rows(select(identities))
    assert (row.lytics_id, row.moved_at_ns, row.is_enter, row.member_id) == (ADA_ID, ns(7), False, None)


async def test_newest_move_decides_which_user_holds_a_shared_address(members: Members, running: Running) -> None:
    """If a user changes address, the old address stays on the list while another user has it."""
    await running("A")
    await members.apply([enter(ADA, at=1), enter(ADA, at=2, lytics_id=GRACE_ID)])
    await members.apply([enter(LOVELACE, at=3)])
    shared, moved = await held(members, ADA), await held(members, LOVELACE)

    assert (shared.desired, shared.lytics_id) == (True, GRACE_ID)
    assert (moved.desired, moved.lytics_id) == (True, ADA_ID)


async def test_change_without_effect_stores_no_member(members: Members, running: Running, database: Database) -> None:
    """Examples are a `change` of an unknown user, and an enter for an unknown export."""
    await running("A")
    kept = await members.apply([change(ADA, message=1), enter(GRACE, lytics_id=GRACE_ID, export_id=99)])
    ((known,),) = await database.rows(select(func.count()).select_from(members_table))

    assert kept.verdicts == (Verdict.IGNORED, Verdict.IGNORED)
    assert known == 0


async def test_last_event_of_an_export_is_remembered(
    members: Members, exports: Exports, running: Running, clock: Clock
) -> None:
    """Events without effect count too, because they show that Lytics still sends."""
    await running("A")
    await members.apply([enter(at=1)])
    clock.advance(MINUTE)
    await members.apply([enter(at=1)])
    (report,) = await exports.reports(1)

    assert report.last_event_at == NOON + MINUTE
    assert report.counts["stale"] == 1


async def test_large_webhook_takes_several_statements(
    members: Members, exports: Exports, running: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases limit the number of keys in a statement."""
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    await running("A")
    kept = await members.apply([enter(f"p{n}@example.com", at=1, lytics_id=str(n)) for n in range(10)])
    claimed = await members.claim(ACCOUNT, capacity=room(10), lease_for=MINUTE)
    await asyncio.gather(*(members.settle(settlement(claim)) for claim in claimed))
    await assert_all_adds_up(database, exports)

    assert set(kept.verdicts) == {Verdict.ACCEPTED}
    assert await counts(exports) == {"accepted": 10, "delivered": 10, "members": 10}


@pytest.mark.parametrize("confirmed", ["never", "in", "out", "unknown"])
async def test_change_leaves_the_confirmed_state(
    members: Members, exports: Exports, running: Running, confirmed: str
) -> None:
    """Only an answer of Sailthru changes it."""
    await running("A")
    await members.apply([enter(at=1)])
    await settle_as(members, exports, confirmed)
    await members.apply([exit_(at=2)])

    assert (await held(members, ADA)).confirmed is Confirmed(confirmed)
