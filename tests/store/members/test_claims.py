"""Claims: the order of claims, the records before a call, and the state after it."""

import asyncio
import random

import pytest
from sqlalchemy import select, text, update

from app.domain.call import Call, Claim
from app.domain.membership import Confirmed
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import members as members_table
from app.store.schema import memberships
from tests.factories import (
    ACCOUNT,
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    MINUTE,
    NOON,
    SECOND,
    Clock,
    Effect,
    after_read,
    change,
    enter,
    exit_,
    ns,
    room,
    settlement,
)
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held

LEASE = 32 * SECOND


async def claims(members: Members, *, limit: int = 100, account: str = ACCOUNT) -> list[Claim]:
    return await members.claim(account, capacity=room(limit), lease_for=LEASE)


async def claim_one(members: Members) -> Claim:
    (claim,) = await claims(members)
    return claim


async def confirm_all(members: Members) -> None:
    """Let Sailthru confirm all pending changes."""
    for claim in await claims(members):
        await members.settle(settlement(claim))


async def test_member_due_longest_is_claimed_first(members: Members, running: Running, clock: Clock) -> None:
    """The address and the id of the row do not matter."""
    await running("A")
    people = ["z@example.com", "a@example.com", "m@example.com"]
    for address in people:
        await members.apply([enter(address, lytics_id=address)])
        clock.advance(SECOND)
    order = [claim.address for _ in people for claim in await claims(members, limit=1)]

    assert order == people


async def test_live_changes_are_claimed_before_a_backfill_that_waits_longer(
    members: Members, running: Running, clock: Clock, database: Database
) -> None:
    """A claim takes members of the backfill only with the remaining capacity."""
    await running("A")
    backfill = [f"backfill{n}@example.com" for n in range(3)]
    await members.apply([enter(address, lytics_id=address) for address in backfill])
    await database.write(lambda connection: connection.execute(update(members_table).values(priority=1)))
    clock.advance(SECOND)
    await members.apply([enter(address, lytics_id=address) for address in ("live1@example.com", "live2@example.com")])
    first = await claims(members, limit=3)
    second = await claims(members, limit=3)

    assert [claim.address for claim in first[:2]] == ["live1@example.com", "live2@example.com"]
    assert first[2].address in backfill
    assert {claim.address for claim in (*first[2:], *second)} == set(backfill)


async def test_probe_is_the_newest_member_whose_last_call_did_not_fail(
    members: Members, running: Running, clock: Clock, database: Database
) -> None:
    """Members of a backfill come last. If all members failed, the one due longest is the probe."""
    await running("A")
    await members.apply([enter("backfill@example.com", lytics_id="backfill@example.com")])
    await database.write(lambda connection: connection.execute(update(members_table).values(priority=1)))
    for address in ("first@example.com", "second@example.com", "third@example.com"):
        clock.advance(SECOND)
        await members.apply([enter(address, lytics_id=address)])
    order: list[Claim] = []
    for _ in range(5):
        failing = frozenset(claim.member_id for claim in order)
        (claim,) = await members.claim(ACCOUNT, capacity=room(1, is_probe=True, failing=failing), lease_for=LEASE)
        await members.settle(settlement(claim, Effect.NONE, retry_at=clock()))
        order.append(claim)
        clock.advance(SECOND)

    names = [claim.address.partition("@")[0] for claim in order]
    assert names == ["third", "second", "first", "backfill", "third"]


async def test_no_member_is_claimed_twice_at_once(members: Members, running: Running) -> None:
    await running("A")
    people = [f"person{n}@example.com" for n in range(50)]
    await members.apply([enter(address, lytics_id=address) for address in people])
    found = await asyncio.gather(*(claims(members, limit=7) for _ in range(10)))
    addresses = [claim.address for part in found for claim in part]

    assert sorted(addresses) == sorted(people)


async def test_claim_takes_only_members_of_its_account(members: Members, exports: Exports, running: Running) -> None:
    """One address in two accounts is two members."""
    await running("A")
    other = await exports.start("A", audience_slug="a", account="other")
    await exports.name(other.id, "A", "Lytics A")
    await members.apply([enter(export_id=1), enter(export_id=other.id)])
    (mine,) = await claims(members)
    (theirs,) = await claims(members, account="other")

    assert (mine.address, theirs.address) == (ADA, ADA)
    assert mine.member_id != theirs.member_id
    assert [pending.export_id for pending in theirs.pending] == [other.id]


async def test_all_lists_of_a_member_are_in_one_call(members: Members, running: Running) -> None:
    """The call has joins, leaves and vars of every running export of the account."""
    await running("A")
    await running("B")
    await running("C")
    await members.apply([enter(at=1, export_id=2)])
    await confirm_all(members)
    await members.apply(
        [
            enter(at=2, export_id=1, vars={"a": 1}),
            exit_(at=2, export_id=2),
            enter(at=2, export_id=3, vars={"c": 3}),
        ]
    )
    claim = await claim_one(members)

    assert set(claim.call.join) == {"Lytics A", "Lytics C"}
    assert claim.call.leave == ("Lytics B",)
    assert claim.call.vars == {"a": 1, "c": 3}


async def test_confirmed_state_is_unknown_before_the_call_leaves(members: Members, running: Running) -> None:
    """This holds only for the lists in the call."""
    await running("A")
    await running("B")
    await members.apply([enter(at=1, export_id=1, vars={"a": 1})])
    await confirm_all(members)
    await members.apply([change(message=5, export_id=1, vars={"a": 2}), enter(at=1, export_id=2)])
    claim = await claim_one(members)
    first, second = await held(members, ADA, 1), await held(members, ADA, 2)

    assert claim.call.join == ("Lytics B",)
    assert (first.confirmed, first.confirmed_vars) == (Confirmed.IN, None)
    assert second.confirmed is Confirmed.UNKNOWN


async def test_read_leaves_the_confirmed_state(members: Members, running: Running) -> None:
    """The following write is recorded separately before it leaves."""
    await running("A")
    await members.apply([exit_()])
    claim = await claim_one(members)
    before = await held(members, ADA)
    call = after_read(claim, frozenset({"Lytics A"}))
    is_ours = await members.begin(claim, call, until=NOON + 2 * LEASE)

    assert claim.call.is_read
    assert before.confirmed is Confirmed.NEVER
    assert is_ours
    assert (await held(members, ADA)).confirmed is Confirmed.UNKNOWN
    assert await members.next_due_at(ACCOUNT) == NOON + 2 * LEASE


async def test_exit_of_an_unknown_address_is_settled_without_a_write(
    members: Members, exports: Exports, running: Running
) -> None:
    """A write would create a profile that can receive mail. A later exit needs no second read."""
    await running("A")
    await members.apply([exit_(at=1)])
    claim = await claim_one(members)
    call = after_read(claim)
    settled = await members.settle(settlement(claim, call=call))
    await members.apply([exit_(at=2)])

    assert not call.is_write
    assert settled.due_at is None
    assert await claims(members) == []
    assert await counts(exports) == {"accepted": 2, "delivered": 2}


async def test_crash_in_flight_leads_to_a_read(members: Members, running: Running, clock: Clock) -> None:
    """After a lease ends without a settlement, a join is repeated only after a read."""
    await running("A")
    await members.apply([enter()])
    await claim_one(members)
    clock.advance(LEASE)
    again = await claim_one(members)

    assert again.call.is_read
    assert again.attempts == 2
    assert after_read(again, frozenset({"Lytics A"})).is_write is False


async def test_settlement_without_the_lease_records_nothing(
    members: Members, exports: Exports, running: Running, clock: Clock
) -> None:
    """Another worker has claimed the member."""
    await running("A")
    await members.apply([enter()])
    lost = await claim_one(members)
    clock.advance(LEASE)
    await claim_one(members)
    before = await held(members, ADA)
    settled = await members.settle(settlement(lost, dead={1: "11"}))
    is_ours = await members.begin(lost, lost.call, until=NOON + MINUTE)

    assert (settled.is_ours, settled.due_at, is_ours) == (False, None, False)
    assert await held(members, ADA) == before
    assert await counts(exports) == {"accepted": 1, "pending": 1, "members": 1}


async def test_every_claim_has_its_own_token(members: Members, running: Running, clock: Clock) -> None:
    """The holder of a lost lease can therefore never settle a later claim."""
    await running("A")
    await members.apply([enter(), enter(GRACE, lytics_id=GRACE_ID)])
    tokens: dict[str, set[int]] = {ADA: set(), GRACE: set()}
    for _ in range(5):
        for claim in await claims(members):
            tokens[claim.address].add(claim.lease)
        clock.advance(LEASE)

    assert [len(leases) for leases in tokens.values()] == [5, 5]


async def test_settled_claim_cannot_be_settled_again(members: Members, exports: Exports, running: Running) -> None:
    await running("A")
    await members.apply([enter()])
    claim = await claim_one(members)
    first = await members.settle(settlement(claim))
    second = await members.settle(settlement(claim))

    assert (first.is_ours, second.is_ours) == (True, False)
    assert await counts(exports) == {"accepted": 1, "delivered": 1, "members": 1}


@pytest.mark.parametrize("effect", list(Effect))
async def test_change_during_the_call_stays_pending(
    members: Members, exports: Exports, running: Running, database: Database, effect: Effect
) -> None:
    """This holds for every end of the call, since it carried only the claimed change."""
    await running("A")
    await members.apply([enter(at=1)])
    claim = await claim_one(members)
    await members.apply([exit_(at=2)])
    settled = await members.settle(settlement(claim, effect))
    following = await claim_one(members)
    call = await begin_write_after_read(members, following) if following.call.is_read else following.call
    await members.settle(settlement(following, call=call))
    await assert_all_adds_up(database, exports)

    assert settled.due_at == NOON
    assert (await held(members, ADA)).confirmed is Confirmed.OUT
    assert (await counts(exports))["delivered"] == (2 if effect is Effect.CONFIRMED else 1)


async def begin_write_after_read(members: Members, claim: Claim) -> Call:
    """Begin the write after the read of a claim that found no profile; return it."""
    call = after_read(claim)
    assert await members.begin(claim, call, until=claim.leased_until)
    return call


async def test_failed_call_restores_the_confirmed_state(members: Members, running: Running) -> None:
    """The call was certainly not carried out, so the next join needs no read."""
    await running("A")
    await members.apply([enter(at=1, vars={"a": 1})])
    await confirm_all(members)
    await members.apply([change(message=5, vars={"a": 2})])
    before = await held(members, ADA)
    claim = await claim_one(members)
    await members.settle(settlement(claim, Effect.NONE, retry_at=NOON))

    assert await held(members, ADA) == before


async def test_settlement_that_changes_nothing_keeps_every_column(
    database: Database, members: Members, running: Running
) -> None:
    """All columns have different values, so that swapped columns are detected."""
    await running("A")
    await members.apply([enter(at=1, vars={"a": 1})])
    different = {
        "confirmed": "in",
        "revision": 9,
        "confirmed_revision": 8,
        "confirmed_vars": "d" * 32,
        "confirmed_at": NOON + MINUTE,
        "dead_at": NOON + 2 * MINUTE,
        "first_failed_at": NOON + 3 * MINUTE,
    }
    await database.write(lambda connection: connection.execute(update(memberships).values(different)))
    before = await database.rows(select(memberships))
    claim = await claim_one(members)
    during = await database.rows(select(memberships))
    await members.settle(settlement(claim, Effect.NONE, retry_at=NOON))

    assert during != before
    assert await database.rows(select(memberships)) == before


async def test_first_failure_is_remembered_until_the_change_is_confirmed(
    members: Members, running: Running, clock: Clock
) -> None:
    """The retry window of a change begins with it. A newer change has its own window."""
    await running("A")
    await members.apply([enter(at=1)])
    failed: list[object] = []
    for _ in range(2):
        await members.settle(settlement(await claim_one(members), Effect.NONE, spent_at=clock()))
        failed.append((await held(members, ADA)).first_failed_at)
        clock.advance(MINUTE)
    await members.apply([enter(at=2)])
    newer = (await held(members, ADA)).first_failed_at
    await members.settle(settlement(await claim_one(members), Effect.NONE, spent_at=clock()))
    again = (await held(members, ADA)).first_failed_at
    await confirm_all(members)

    assert failed == [NOON, NOON]
    assert newer is None
    assert again == NOON + 2 * MINUTE
    assert (await held(members, ADA)).first_failed_at is None


async def test_attempts_count_spent_calls_and_start_over_after_success(members: Members, running: Running) -> None:
    """A used-up rate limit does not spend an attempt."""
    await running("A")
    await members.apply([enter(at=1)])
    seen: list[int] = []
    for is_spent in (True, False, True):
        claim = await claim_one(members)
        seen.append(claim.attempts)
        await members.settle(settlement(claim, Effect.NONE, is_spent=is_spent))
    claim = await claim_one(members)
    seen.append(claim.attempts)
    await members.settle(settlement(claim))
    await members.apply([exit_(at=2)])
    seen.append((await claim_one(members)).attempts)

    assert seen == [1, 2, 2, 3, 1]


async def test_newer_change_waits_for_the_retry(members: Members, running: Running, clock: Clock) -> None:
    """A lost call may still be carried out, so no call leaves before the retry."""
    await running("A")
    await members.apply([enter(at=1)])
    claim = await claim_one(members)
    await members.apply([exit_(at=2)])
    settled = await members.settle(settlement(claim, Effect.UNKNOWN, retry_at=NOON + MINUTE, is_spent=True))
    await members.apply([enter(at=3)])
    early = await claims(members)
    clock.advance(MINUTE)

    assert settled.due_at == NOON + MINUTE
    assert early == []
    assert [claimed.address for claimed in await claims(members)] == [ADA]


async def test_newer_change_during_the_call_prevents_a_dead_letter(
    members: Members, exports: Exports, running: Running
) -> None:
    """The claimed change is superseded, and the newer one stays pending."""
    await running("A")
    await members.apply([enter(at=1)])
    claim = await claim_one(members)
    await members.apply([enter(at=2, vars={"a": 1})])
    settled = await members.settle(settlement(claim, Effect.NONE, dead={1: "11"}, is_spent=True))

    assert settled.due_at == NOON
    assert (await held(members, ADA)).dead_code is None
    assert await counts(exports) == {"accepted": 2, "superseded": 1, "pending": 1, "members": 1}


async def test_only_the_refused_list_becomes_a_dead_letter(
    members: Members, exports: Exports, running: Running
) -> None:
    await running("A")
    await running("B")
    await members.apply([enter(export_id=1), enter(export_id=2)])
    claim = await claim_one(members)
    settled = await members.settle(
        settlement(claim, Effect.NONE, dead={2: "11"}, is_spent=True, retry_at=NOON + MINUTE)
    )
    states = [report.state for report in await members.find_by_address(ADA)]

    assert states == ["retrying", "dead_letter"]
    assert settled.due_at == NOON + MINUTE
    assert await counts(exports, 2) == {"accepted": 1, "dead": 1, "members": 1}


async def test_pause_during_the_call_holds_newer_changes(
    members: Members, running: Running, database: Database
) -> None:
    """The outcome of the call is still recorded."""
    await running("A")
    await members.apply([enter(at=1)])
    claim = await claim_one(members)
    await members.apply([exit_(at=2)])
    await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
    settled = await members.settle(settlement(claim))
    (report,) = await members.find_by_address(ADA)

    assert settled.due_at is None
    assert (report.state, report.membership.confirmed) == ("held", Confirmed.IN)
    assert await members.next_due_at(ACCOUNT) is None


async def test_only_running_exports_are_delivered(members: Members, exports: Exports, running: Running) -> None:
    """A nameless export does not delay the others and does not lose its changes."""
    await running("A")
    nameless = await exports.start("B", audience_slug="b", account=ACCOUNT)
    await members.apply([enter(export_id=1), enter(export_id=nameless.id)])
    claim = await claim_one(members)
    settled = await members.settle(settlement(claim))
    states = [report.state for report in await members.find_by_address(ADA)]

    assert [pending.export_id for pending in claim.pending] == [1]
    assert settled.due_at is None
    assert states == ["settled", "held"]


async def test_export_that_begins_to_run_does_not_change_claimed_members(
    members: Members, exports: Exports, running: Running
) -> None:
    await running("A")
    other = await exports.start("B", audience_slug="b", account=ACCOUNT)
    await members.apply([enter(export_id=1), enter(export_id=other.id)])
    claim = await claim_one(members)
    await exports.name(other.id, "B", "Lytics B")
    is_more = await members.next_batch(other.id)
    meanwhile = await claims(members)
    settled = await members.settle(settlement(claim))

    assert not is_more
    assert meanwhile == []
    assert settled.due_at == NOON
    assert (await claim_one(members)).call == Call(("Lytics B",), covers={other.id: Confirmed.IN})


class Account:
    """A Sailthru account and its worker. Calls end in every possible way."""

    def __init__(self, members: Members, clock: Clock, dice: random.Random) -> None:
        self._members = members
        self._clock = clock
        self._dice = dice
        self.on_list: set[tuple[str, str]] = set()

    async def work(self, *ends: str) -> None:
        """Call for two members; each call ends in one of these ways."""
        for claim in await claims(self._members, limit=2):
            call = claim.call
            if call.is_read:
                call = after_read(claim, frozenset(name for address, name in self.on_list if address == claim.address))
                await self._members.begin(claim, call, until=self._clock() + LEASE)
            await self._end(claim, call, self._dice.choice(ends))

    async def _end(self, claim: Claim, call: Call, end: str) -> None:
        is_carried_out = end == "confirmed" or (end in {"unknown", "crash"} and self._dice.random() < 0.5)
        if is_carried_out:
            self.on_list |= {(claim.address, name) for name in call.join}
            self.on_list -= {(claim.address, name) for name in call.leave}
        if end == "dead":
            dead = {pending.export_id: "11" for pending in claim.pending}
            await self._members.settle(settlement(claim, Effect.NONE, call=call, dead=dead, is_spent=True))
        elif end != "crash":
            await self._members.settle(settlement(claim, Effect(end), call=call, is_spent=True))


@pytest.mark.parametrize("seed", range(2))
async def test_everything_adds_up_at_every_moment(
    database: Database, clock: Clock, running: Running, seed: int
) -> None:
    """The history has two members, two exports, all ends of calls, and expired leases."""
    dice = random.Random(seed)
    exports, members = Exports(database, clock), Members(database, clock)
    account = Account(members, clock, dice)
    for name in ("A", "B"):
        await running(name)
    users = [(export_id, person) for export_id in (1, 2) for person in ((ADA, ADA_ID), (GRACE, GRACE_ID))]
    for at in range(25):
        export_id, (address, lytics_id) = dice.choice(users)
        is_enter = dice.random() < 0.6
        left = exit_(address, at=at, lytics_id=lytics_id, export_id=export_id)
        newest = enter(address, at=at, lytics_id=lytics_id, export_id=export_id) if is_enter else left
        late = left._replace(moved_at_ns=ns(at - 0.5))
        await members.apply([newest, late])
        await account.work("confirmed", "none", "unknown", "crash", "dead")
        await assert_all_adds_up(database, exports)
        clock.advance(dice.choice([SECOND, LEASE]))
    # A dead letter waits for a newer change, so every membership gets one.
    await members.apply([exit_(who, at=90, lytics_id=id_, export_id=export_id) for export_id, (who, id_) in users])
    await members.apply([enter(at=91, export_id=2)])
    for _ in range(4):
        clock.advance(LEASE)
        await account.work("confirmed")
    await assert_all_adds_up(database, exports)

    assert account.on_list == {(ADA, "Lytics B")}
    assert await members.next_due_at(ACCOUNT) is None


async def test_exit_while_a_worker_reads_is_delivered_after_the_claimed_enter(
    members: Members, running: Running
) -> None:
    """The claimed enter still leaves. So the exit needs a call, although the confirmed state was `out`."""
    await running("A")
    await running("B")
    await members.apply([exit_(at=1, export_id=2)])
    unknown = await claim_one(members)
    await members.settle(settlement(unknown, call=after_read(unknown)))
    await members.apply([exit_(at=2), enter(at=2, export_id=2)])
    claimed = await claim_one(members)
    assert claimed.call.is_read
    await members.apply([exit_(at=3, export_id=2)])
    join = after_read(claimed)
    assert await members.begin(claimed, join, until=NOON + MINUTE)
    await members.settle(settlement(claimed, call=join))
    later = await claim_one(members)

    assert join.join == ("Lytics B",)
    assert later.call.leave == ("Lytics B",)
