from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from app.domain.call import Call, Claim
from app.domain.change import MembershipChange
from app.domain.export import Export
from app.domain.ledger import Verdict
from app.domain.membership import Confirmed
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.members import Members
from app.store.schema import memberships
from tests.changes import change, enter, exit_
from tests.factories import ADA, NOON, SECOND, Clock, Effect, room, settlement

LEASE = timedelta(seconds=30)


class Store:
    """The parts of the store, and an export."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.exports = Exports(database, clock)
        self.members = Members(database, clock)
        self.journal = Journal(database)

    async def export(self, name: str | None = "Spring Buyers", audience: str = "a1", *, ready: bool = True) -> Export:
        export = await self.exports.start(audience, audience_slug="slug", account="default")
        if name is None:
            return export
        named = await self.exports.name(export.id, name, f"Lytics {name}")
        if ready and named.list_name:
            await self.exports.mark_list_ready("default", named.list_name, "list-id")
        while await self.members.next_batch(named.id):
            pass
        return named

    async def apply(self, *changes: MembershipChange) -> tuple[Verdict, ...]:
        return (await self.members.apply(changes)).verdicts

    async def claim(self, limit: int = 10) -> list[Claim]:
        return await self.members.claim("default", capacity=room(limit), lease_for=LEASE)

    async def counts(self, export_id: int = 1) -> dict[str, int]:
        (report,) = await self.exports.reports(export_id)
        return {name: count for name, count in report.counts.items() if count}

    async def confirmed(self) -> list[str]:
        return [row.confirmed for row in await self.database.rows(select(memberships.c.confirmed))]


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, clock)


async def test_change_is_stored_claimed_and_settled(store: Store) -> None:
    """The counts add up at each step, and the timeline shows all steps."""
    await store.export()
    kept = await store.members.apply([enter(vars={"first_name": "Ada"})])
    pending = await store.counts()
    (claim,) = await store.claim()
    confirmed_in_flight = await store.confirmed()
    result = await store.members.settle(settlement(claim))
    timeline = await store.journal.timeline(ADA)

    assert (kept.verdicts, kept.due_accounts) == ((Verdict.ACCEPTED,), frozenset({"default"}))
    assert pending == {"accepted": 1, "pending": 1, "members": 1}
    assert claim.call == Call(join=("Lytics Spring Buyers",), vars={"first_name": "Ada"}, covers={1: Confirmed.IN})
    assert confirmed_in_flight == ["unknown"]
    assert (result.is_ours, result.due_at) == (True, None)
    assert await store.counts() == {"accepted": 1, "delivered": 1, "members": 1}
    assert [line.what for _, line in timeline] == ["received", "called", "answered"]
    assert await store.claim() == []
    (report,) = await store.members.find_by_address(ADA)
    assert (report.state, report.membership.confirmed) == ("settled", Confirmed.IN)


async def test_member_is_claimed_by_one_worker_until_the_lease_ends(store: Store) -> None:
    """The member of a crashed worker becomes due again. Sailthru is then read first."""
    await store.export()
    await store.apply(enter())
    (lost,) = await store.claim()
    meanwhile = await store.claim()
    due_at = await store.members.next_due_at("default")
    store.clock.advance(31 * SECOND)
    (again,) = await store.claim()
    late = await store.members.settle(settlement(lost))
    begun = await store.members.begin(lost, lost.call, until=store.clock())

    assert meanwhile == []
    assert due_at == NOON + LEASE
    assert again.call.is_read
    assert again.attempts == 2
    assert (late.is_ours, begun) == (False, False)
    assert await store.counts() == {"accepted": 1, "pending": 1, "members": 1}


async def test_change_during_the_call_is_delivered_next(store: Store) -> None:
    """The settlement applies to the claimed revision."""
    await store.export()
    await store.apply(enter(at=1))
    (claim,) = await store.claim()
    await store.apply(exit_(at=2))
    not_yet = await store.claim()
    result = await store.members.settle(settlement(claim))
    (following,) = await store.claim()

    assert not_yet == []
    assert result.due_at == NOON
    assert following.call.leave == ("Lytics Spring Buyers",)


async def test_newer_change_does_not_bring_a_retry_forward(store: Store) -> None:
    """A lost call may still be carried out, so no call leaves before the retry."""
    await store.export()
    await store.apply(enter(at=1))
    (claim,) = await store.claim()
    retry_at = NOON + timedelta(seconds=20)
    result = await store.members.settle(settlement(claim, Effect.UNKNOWN, retry_at=retry_at, is_spent=True))
    (report,) = await store.members.find_by_address(ADA)
    await store.apply(exit_(at=2))
    early = await store.claim()
    store.clock.advance(20 * SECOND)
    (claim,) = await store.claim()

    assert result.due_at == retry_at
    assert report.state == "retrying"
    assert early == []
    assert claim.call.leave == ("Lytics Spring Buyers",)
    assert claim.attempts == 2


async def test_unspent_attempt_does_not_count(store: Store) -> None:
    await store.export()
    await store.apply(enter(at=1))
    (claim,) = await store.claim()
    await store.members.settle(settlement(claim, Effect.NONE, retry_at=NOON))
    (again,) = await store.claim()

    assert again.attempts == 1
    assert again.call == claim.call


async def test_dead_letter_waits_for_a_newer_change(store: Store) -> None:
    """Until then it is counted and shown."""
    await store.export()
    await store.apply(enter(at=1))
    (claim,) = await store.claim()
    await store.members.settle(settlement(claim, Effect.NONE, dead={1: "11"}, is_spent=True))
    dead = await store.counts()
    (report,) = await store.members.find_by_address(ADA)
    claims = await store.claim()
    await store.apply(enter(at=2))

    assert dead == {"accepted": 1, "dead": 1, "members": 1}
    assert (report.state, report.membership.dead_code) == ("dead_letter", "11")
    assert claims == []
    assert await store.counts() == {"accepted": 2, "superseded": 1, "pending": 1, "members": 1}


async def test_call_that_waits_for_its_list_is_recorded_when_it_leaves(store: Store) -> None:
    """Until the call leaves, the confirmed state is known."""
    await store.export(ready=False)
    await store.apply(enter(vars={"a": 1}))
    (claim,) = await store.claim()
    before = await store.confirmed()
    begun = await store.members.begin(claim, claim.call, until=NOON + 2 * LEASE)

    assert not claim.can_be_sent_now
    assert before == ["never"]
    assert begun
    assert await store.confirmed() == ["unknown"]
    assert await store.members.next_due_at("default") == NOON + 2 * LEASE


async def test_members_of_a_nameless_export_become_due_in_batches_once_it_runs(store: Store) -> None:
    export = await store.export(None)
    people = [f"person{n}@example.com" for n in range(5)]
    await store.apply(*(enter(address, lytics_id=address) for address in people))
    before = await store.claim()
    (held,) = await store.members.find_by_address(people[0])
    await store.exports.name(export.id, "Spring Buyers", "Lytics Spring Buyers")
    unfinished = await store.exports.unfinished()
    batches = [await store.members.next_batch(export.id, size=2)]
    # A restart in the middle: the progress is in the database.
    members = Members(store.database, store.clock)
    while batches[-1]:
        batches.append(await members.next_batch(export.id, size=2))
    claims = await store.claim()

    assert before == []
    assert held.state == "held"
    assert unfinished == [export.id]
    assert batches == [True, True, False]
    assert {claim.address for claim in claims} == set(people)
    assert await store.exports.unfinished() == []
    assert not await store.members.next_batch(99)


async def test_member_with_nothing_pending_is_released(store: Store, database: Database) -> None:
    """The export was paused after the member became due."""
    await store.export()
    await store.apply(enter())
    await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
    claims = await store.claim()

    assert claims == []
    assert await store.members.next_due_at("default") is None


async def test_stopped_export_takes_no_changes(store: Store, database: Database) -> None:
    await store.export()
    await database.write(lambda connection: connection.execute(text("update exports set state = 'stopped'")))

    assert await store.apply(enter()) == (Verdict.IGNORED,)


async def test_live_changes_are_claimed_before_backfills(store: Store, database: Database) -> None:
    await store.export()
    await store.apply(enter("slow@example.com", lytics_id="1"), enter("live@example.com", lytics_id="2"))
    backfilled = text("update members set priority = 1 where address = 'slow@example.com'")
    await database.write(lambda connection: connection.execute(backfilled))
    first = await store.claim(1)
    both = await store.claim(2)

    assert [claim.address for claim in first] == ["live@example.com"]
    assert [claim.address for claim in both] == ["slow@example.com"]


@pytest.mark.parametrize(
    "changes",
    [
        [enter("old@example.com", at=1), enter("new@example.com", at=2)],
        [enter("old@example.com", at=1), change("new@example.com", at=2)],
        [enter("new@example.com", at=2), enter("old@example.com", at=1)],
    ],
)
@pytest.mark.parametrize("is_batch", [True, False])
async def test_user_holds_one_address(store: Store, changes: Sequence[MembershipChange], is_batch: bool) -> None:
    """The changes arrive in one transaction or in several."""
    await store.export()
    for part in [changes] if is_batch else [[item] for item in changes]:
        await store.apply(*part)
    on_list = [
        report.membership.address
        for address in ("old@example.com", "new@example.com")
        for report in await store.members.find_by_address(address)
        if report.membership.desired
    ]

    assert on_list == ["new@example.com"]
    assert (await store.counts())["members"] == 1


async def test_failed_vars_call_is_repeated(store: Store) -> None:
    """A call for changed fields of a member on the list names no lists."""
    await store.export()
    await store.apply(enter(at=1, vars={"a": 1}))
    (claim,) = await store.claim()
    await store.members.settle(settlement(claim))
    await store.apply(change(at=2, vars={"a": 2}))
    (claim,) = await store.claim()
    await store.members.settle(settlement(claim, Effect.UNKNOWN, retry_at=NOON, is_spent=True))
    (again,) = await store.claim()

    assert claim.call == Call(vars={"a": 2}, covers={1: Confirmed.IN})
    assert again.call == claim.call
    await store.members.flush()
