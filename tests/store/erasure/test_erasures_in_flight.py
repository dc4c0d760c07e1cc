"""Erasing a member during a call, or before it has left its lists: it is deleted afterwards."""

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.domain.call import Call
from app.domain.erasure import Erased
from app.domain.membership import Confirmed
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.members import Members
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
    Effect,
    after_read,
    change,
    enter,
    exit_,
    settlement,
)
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held
from tests.store.erasure.erasing import DIGESTS, LEASE, claims, confirm_due, traces

VALUE = "Zyzzyva"


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock, digests=DIGESTS)


@pytest.fixture
def erasures(database: Database, clock: Clock) -> Erasures:
    return Erasures(database, clock, DIGESTS)


class TestCallInFlight:
    @pytest.mark.parametrize("effect", [*Effect, None])
    async def test_member_is_deleted_when_its_lease_has_ended(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        database: Database,
        clock: Clock,
        effect: Effect | None,
    ) -> None:
        await running("A")
        await members.apply([enter(vars={"last_name": VALUE})])
        (claim,) = await claims(members)
        done = await erasures.erase(ADA, leave_lists=False)
        left = await traces(database, ADA_ID, VALUE), await traces(database, ADA)
        begun = await members.begin(claim, claim.call, until=NOON + 2 * LEASE)
        settled = None if effect is None else await members.settle(settlement(claim, effect))
        await assert_all_adds_up(database, exports, has_erasures=True)
        early, due_at = await claims(members), await members.next_due_at(ACCOUNT)
        clock.advance(LEASE)
        # After a restart.
        again = await claims(Members(database, clock, digests=DIGESTS))
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert done.was_known
        assert (left[0], len(left[1])) == ([], 1)
        assert (begun, settled is None or settled.is_ours) == (False, effect is None)
        assert (early, due_at) == ([], NOON + LEASE)
        assert again == []
        assert await traces(database, ADA) == []
        assert await counts(exports) == {"accepted": 1, "erased": 1}

    async def test_list_that_the_call_may_have_joined_is_left_without_a_read(
        self, members: Members, erasures: Erasures, running: Running, database: Database, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await claims(members)
        done = await erasures.erase(ADA, leave_lists=True)
        early = await claims(members)
        clock.advance(LEASE)
        (leave,) = await confirm_due(members)

        assert done == Erased(was_known=True, leaving=("Lytics A",), due_accounts=frozenset({ACCOUNT}))
        assert early == []
        assert leave.call == Call(leave=("Lytics A",), covers={1: Confirmed.OUT})
        assert await traces(database, ADA) == []

    async def test_second_erasure_does_not_shorten_the_wait_for_the_call(
        self, members: Members, erasures: Erasures, running: Running, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter(at=1)])
        await claims(members)
        for _ in range(2):
            await erasures.erase(ADA, leave_lists=False)
        await erasures.lift(ADA)
        await members.apply([enter(at=2)])
        early = await claims(members)
        clock.advance(LEASE)

        assert early == []
        assert [claim.address for claim in await claims(members)] == [ADA]

    async def test_leaving_lists_can_be_requested_later_and_is_not_revoked(
        self, members: Members, erasures: Erasures, running: Running, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await claims(members)
        leaving = [(await erasures.erase(ADA, leave_lists=leave)).leaving for leave in (False, True, False)]
        clock.advance(LEASE)
        (leave,) = await confirm_due(members)

        assert leaving == [(), ("Lytics A",), ("Lytics A",)]
        assert leave.call.leave == ("Lytics A",)
        assert await members.find_by_address(ADA) == []

    async def test_other_users_of_a_shared_address_are_read_again(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        database: Database,
        clock: Clock,
    ) -> None:
        await running("A")
        await running("B")
        family = "family@example.com"
        await members.apply([enter(ADA, at=1), enter(family, at=1, export_id=2)])
        await members.apply([enter(family, at=1, lytics_id=GRACE_ID)])
        await claims(members)
        await erasures.erase(ADA, leave_lists=False)
        clock.advance(LEASE)
        (claim,) = await confirm_due(members, on_lists=frozenset({"Lytics A"}))
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert claim.call.is_read
        assert [pending.export_id for pending in claim.pending] == [1]
        assert [report.export_id for report in await members.find_by_address(family)] == [1]
        assert await counts(exports, 1) == {"accepted": 2, "delivered": 1, "erased": 1, "members": 1}


class TestLeavingLists:
    async def test_member_leaves_its_lists_in_one_call_and_is_then_deleted(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        database: Database,
        journal: Journal,
    ) -> None:
        await running("A")
        await running("B")
        await members.apply([enter(vars={"last_name": VALUE}), enter(export_id=2)])
        await confirm_due(members)
        done = await erasures.erase(ADA, leave_lists=True)
        left, after = await traces(database, ADA_ID, VALUE), await counts(exports)
        await assert_all_adds_up(database, exports, has_erasures=True)
        (leave,) = await confirm_due(members)
        lines = await journal.timeline(ADA)
        await assert_all_adds_up(database, exports, has_erasures=True)
        again = await erasures.erase(ADA, leave_lists=True)

        assert done == Erased(was_known=True, leaving=("Lytics A", "Lytics B"), due_accounts=frozenset({ACCOUNT}))
        assert left == []
        assert leave.call == Call(leave=("Lytics A", "Lytics B"), covers={1: Confirmed.OUT, 2: Confirmed.OUT})
        assert lines == []
        assert await traces(database, ADA) == []
        assert after == await counts(exports) == {"accepted": 1, "delivered": 1}
        assert again == Erased(was_known=True, leaving=(), due_accounts=frozenset())

    async def test_member_that_was_never_confirmed_in_is_read_first(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await erasures.erase(ADA, leave_lists=True)
        (claim,) = await confirm_due(members)

        assert claim.call.is_read
        assert not after_read(claim).is_write
        assert await traces(database, ADA) == []

    async def test_member_that_is_confirmed_out_is_deleted_at_once(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter(at=1)])
        await confirm_due(members)
        await members.apply([exit_(at=2)])
        await confirm_due(members)
        done = await erasures.erase(ADA, leave_lists=True)

        assert done.leaving == ()
        assert await traces(database, ADA) == []

    async def test_failed_leave_is_tried_again_even_after_a_restart(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        database: Database,
        clock: Clock,
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await confirm_due(members)
        await erasures.erase(ADA, leave_lists=True)
        (claim,) = await claims(members)
        await members.settle(settlement(claim, Effect.UNKNOWN, retry_at=NOON + MINUTE, is_spent=True))
        asked = await erasures.erase(ADA, leave_lists=True)
        early = await claims(members)
        clock.advance(MINUTE)
        (second,) = await claims(members)
        await erasures.erase(ADA, leave_lists=True)
        clock.advance(LEASE)
        (third,) = await confirm_due(Members(database, clock, digests=DIGESTS))
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert asked.leaving == ("Lytics A",)
        assert early == []
        assert second.call == third.call == Call(leave=("Lytics A",), covers={1: Confirmed.OUT})
        assert await traces(database, ADA) == []

    async def test_second_erasure_does_not_disturb_the_leave(
        self, members: Members, erasures: Erasures, running: Running
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await confirm_due(members)
        await erasures.erase(ADA, leave_lists=True)
        (claim,) = await claims(members)
        during = await erasures.erase(ADA, leave_lists=True)
        settled = await members.settle(settlement(claim))

        assert during.leaving == ("Lytics A",)
        assert settled.is_ours
        assert await members.find_by_address(ADA) == []

    async def test_leave_that_fails_permanently_is_given_up_and_logged_without_the_address(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await confirm_due(members)
        await erasures.erase(ADA, leave_lists=True)
        (claim,) = await claims(members)
        with capture_logs() as logs:
            await members.settle(settlement(claim, Effect.NONE, dead={1: "retry_window_over"}, is_spent=True))
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert [(line["member"], line["export"], line["code"]) for line in logs] == [(1, 1, "retry_window_over")]
        assert ADA not in str(logs)
        assert await traces(database, ADA) == []
        assert await counts(exports) == {"accepted": 1, "delivered": 1}

    async def test_list_of_a_paused_export_is_left_after_it_is_resumed(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await confirm_due(members)
        await database.write(lambda connection: connection.execute(text("update exports set state = 'paused'")))
        done = await erasures.erase(ADA, leave_lists=True)
        paused = await claims(members)
        runs_again = text("update exports set state = 'running', waking_from = 0")
        await database.write(lambda connection: connection.execute(runs_again))
        await members.next_batch(1)
        (leave,) = await confirm_due(members)

        assert done == Erased(was_known=True, leaving=("Lytics A",), due_accounts=frozenset())
        assert paused == []
        assert leave.call.leave == ("Lytics A",)
        assert await traces(database, ADA) == []

    @pytest.mark.parametrize("state", ["needs_name", "name_taken", "stopped"])
    async def test_list_of_a_stopped_export_is_not_left(
        self, members: Members, erasures: Erasures, running: Running, database: Database, state: str
    ) -> None:
        await running("A")
        await members.apply([enter()])
        await confirm_due(members)
        stands = text("update exports set state = :state")
        await database.write(lambda connection: connection.execute(stands, {"state": state}))
        done = await erasures.erase(ADA, leave_lists=True)

        assert done.leaving == ()
        assert await traces(database, ADA) == []


class TestLifting:
    async def test_lifted_address_is_treated_as_unknown(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter(at=1)])
        await erasures.erase(ADA, leave_lists=False)
        lifted = [await erasures.lift(ADA), await erasures.lift(ADA)]
        kept = await members.apply([enter(LOVELACE, at=2)])
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert lifted == [True, False]
        assert kept.verdicts == ("accepted",)
        assert await erasures.erased_at(ADA) is None
        assert await traces(database, DIGESTS.of_address(ADA), DIGESTS.of_user(ADA_ID)) == []

    @pytest.mark.parametrize("is_in_flight", [True, False])
    async def test_member_that_enters_during_its_leave_joins_again(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        database: Database,
        clock: Clock,
        is_in_flight: bool,
    ) -> None:
        await running("A")
        await members.apply([enter(at=1)])
        await confirm_due(members)
        await erasures.erase(ADA, leave_lists=True)
        under_way = await claims(members) if is_in_flight else []
        await erasures.lift(ADA)
        await members.apply([enter(at=2), change(ADA, message=9, vars={"a": 1})])
        await assert_all_adds_up(database, exports, has_erasures=True)
        for open_claim in under_way:
            await members.settle(settlement(open_claim))
        await assert_all_adds_up(database, exports, has_erasures=True)
        clock.advance(LEASE)
        (claim,) = await confirm_due(members)
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert claim.call.join == (("Lytics A",) if is_in_flight else ())
        assert claim.call.vars == {"a": 1}
        assert (await held(members, ADA)).confirmed is Confirmed.IN
        # Without a leave in flight the member is still on the list, so the enter needs no call.
        confirmed = {"delivered": 2, "superseded": 1} if is_in_flight else {"delivered": 3}
        assert await counts(exports) == {"accepted": 3, "members": 1, **confirmed}

    async def test_lifting_one_address_keeps_the_others_out(
        self, members: Members, erasures: Erasures, running: Running
    ) -> None:
        await running("A")
        await members.apply([enter(), enter(GRACE, lytics_id=GRACE_ID)])
        for address in (ADA, GRACE):
            await erasures.erase(address, leave_lists=False)
        await erasures.lift(ADA)
        kept = await members.apply([enter(at=9), enter(GRACE, at=9, lytics_id=GRACE_ID)])

        assert kept.verdicts == ("accepted", "ignored")
