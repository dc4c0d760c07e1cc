"""Erasing an address: deleted rows, memberships that wait for a last call, and the counts."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from app.domain.call import Call
from app.domain.erasure import Erased
from app.domain.errors import Conflict
from app.domain.membership import Confirmed
from app.store.database.engine import Database
from app.store.erasure import erasing
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.dead_letters import DeadLetters, Filter
from app.store.members.members import Members
from app.store.schema import erasures as erasures_table
from app.store.schema import journal as journal_table
from tests.factories import (
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    LOVELACE,
    MINUTE,
    NOON,
    Clock,
    Effect,
    enter,
    exit_,
    settlement,
)
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held
from tests.store.erasure.erasing import DIGESTS, claims, confirm_due, everything, traces
from tests.store.recording import intercepting, meanwhile, only_reads

VALUE = "Zyzzyva"
ALL_OF_ADA = (ADA, ADA_ID, VALUE, LOVELACE)


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock, digests=DIGESTS)


@pytest.fixture
def erasures(database: Database, clock: Clock) -> Erasures:
    return Erasures(database, clock, DIGESTS)


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


class TestAtOnce:
    async def test_no_trace_is_left_in_any_table(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        for name in ("A", "B", "C"):
            await running(name)
        vars_ = {"last_name": VALUE}
        await members.apply([enter(LOVELACE, at=1, vars=vars_), enter(ADA, at=2, vars=vars_), enter(ADA, export_id=2)])
        await confirm_due(members)
        await members.apply(
            [enter(ADA, at=3, export_id=3), exit_(ADA, at=3, export_id=2), enter(LOVELACE, export_id=3)]
        )
        await members.apply([enter(GRACE, lytics_id=GRACE_ID)])
        before = await traces(database, *ALL_OF_ADA)
        done = await erasures.erase(ADA, leave_lists=False)
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert before
        assert done == Erased(was_known=True, leaving=(), due_accounts=frozenset())
        assert await traces(database, *ALL_OF_ADA) == []
        assert (await held(members, GRACE)).desired

    @pytest.mark.parametrize("kind", ["sqlite"])
    async def test_no_trace_is_left_in_the_bytes_of_the_file(
        self, members: Members, erasures: Erasures, running: Running, database: Database, tmp_path: Path
    ) -> None:
        await running("A")
        people = [enter(f"p{n}@example.com", lytics_id=f"user-{n}", vars={"a": "x" * n}) for n in range(200)]
        await members.apply(people)
        for at in range(3):
            await members.apply([enter(at=at, vars={"last_name": VALUE * (at + 1)})])
            await confirm_due(members)
        await erasures.erase(ADA, leave_lists=False)
        await database.close()
        stored = bytes_in(tmp_path)

        assert b"p199@example.com" in stored
        assert [word for word in (ADA, ADA_ID, VALUE) if word.encode() in stored] == []

    async def test_pending_changes_and_dead_letters_count_as_erased(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await running("B")
        await members.apply([enter(at=1), enter(at=1, export_id=2)])
        (claim,) = await claims(members)
        await members.settle(settlement(claim, Effect.NONE, dead={1: "11", 2: "11"}, is_spent=True))
        await members.apply([enter(at=2), exit_(at=3), enter(at=4)])
        before = await counts(exports, 1), await counts(exports, 2)
        await erasures.erase(ADA, leave_lists=False)
        after = await counts(exports, 1), await counts(exports, 2)
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert before[0] == {"accepted": 4, "superseded": 1, "pending": 3, "members": 1}
        assert before[1] == {"accepted": 1, "dead": 1, "members": 1}
        assert after == ({"accepted": 4, "superseded": 1, "erased": 3}, {"accepted": 1, "erased": 1})

    async def test_dead_letter_cannot_be_redriven_after_erasure(
        self, members: Members, erasures: Erasures, running: Running, database: Database, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        (claim,) = await claims(members)
        await members.settle(settlement(claim, Effect.NONE, dead={1: "11"}, is_spent=True))
        await erasures.erase(ADA, leave_lists=False)
        dead_letters = DeadLetters(database, clock)

        assert await dead_letters.page(Filter()) == []
        assert (await dead_letters.redrive(Filter())).count == 0

    async def test_address_is_erased_in_every_account(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        other = await exports.start("A", audience_slug="a", account="other")
        await members.apply([enter(), enter(export_id=other.id)])
        await erasures.erase(ADA, leave_lists=False)

        assert await traces(database, ADA, ADA_ID) == []
        assert await counts(exports, other.id) == {"accepted": 1, "erased": 1}

    async def test_id_of_a_user_that_exited_is_erased_too(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter(at=1)])
        await members.apply([exit_(None, at=2)])
        await erasures.erase(ADA, leave_lists=False)

        assert await traces(database, ADA, ADA_ID) == []

    async def test_unknown_address_is_kept_out_too(
        self, members: Members, erasures: Erasures, running: Running
    ) -> None:
        await running("A")
        first = await erasures.erase(ADA, leave_lists=True)
        second = await erasures.erase(ADA, leave_lists=True)
        await members.apply([enter()])

        assert first == second == Erased(was_known=False, leaving=(), due_accounts=frozenset())
        assert await members.find_by_address(ADA) == []

    async def test_second_erasure_reports_the_same_and_changes_nothing(
        self, members: Members, erasures: Erasures, running: Running, database: Database, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        first = await erasures.erase(ADA, leave_lists=False)
        before = await everything(database)
        clock.advance(MINUTE)
        second = await erasures.erase(ADA, leave_lists=False)

        assert first == second
        assert await everything(database) == before
        assert await erasures.erased_at(ADA) == NOON


class TestOtherAddressesAndUsers:
    async def test_other_addresses_of_the_same_user_are_erased_too(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await running("B")
        await members.apply([enter(ADA, at=1), enter("work@example.com", at=1, export_id=2)])
        await members.apply([enter("old@example.com", at=2, export_id=2), enter("new@example.com", at=3, export_id=2)])
        await erasures.erase(ADA, leave_lists=False)
        kept = await members.apply([exit_("new@example.com", at=9, export_id=2)])
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert await traces(database, ADA_ID, "@example.com") == []
        assert kept.verdicts == ("ignored",)

    async def test_memberships_of_other_users_under_a_shared_address_stay(
        self,
        *,
        members: Members,
        erasures: Erasures,
        exports: Exports,
        running: Running,
        journal: Journal,
        database: Database,
    ) -> None:
        await running("A")
        await running("B")
        family = "family@example.com"
        await members.apply([enter(ADA, at=1), enter(family, at=1, export_id=2)])
        await members.apply([enter(family, at=1, lytics_id=GRACE_ID)])
        await erasures.erase(ADA, leave_lists=False)
        (left,) = await members.find_by_address(family)
        lines = await journal.timeline(family)
        (claim,) = await confirm_due(members)
        await members.apply([exit_(None, at=5, lytics_id=GRACE_ID)])
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert await traces(database, ADA, ADA_ID) == []
        assert (left.export_id, left.membership.lytics_id) == (1, GRACE_ID)
        assert [line.export_id for _, line in lines] == [1]
        assert claim.call == Call(("Lytics A",), covers={1: Confirmed.IN})
        assert (await claims(members))[0].call.leave == ("Lytics A",)

    async def test_user_that_entered_the_address_before_another_one_is_erased_too(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter(at=1), enter(at=2, lytics_id=GRACE_ID)])
        await erasures.erase(ADA, leave_lists=False)

        assert await traces(database, ADA, ADA_ID, GRACE_ID) == []

    async def test_other_user_of_a_shared_address_can_still_leave_the_list(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await running("B")
        family = "family@example.com"
        await members.apply([enter(family, at=1, lytics_id=GRACE_ID), enter(family, at=2), enter(ADA, export_id=2)])
        await erasures.erase(ADA, leave_lists=False)
        kept = await members.apply([exit_(family, at=3, lytics_id=GRACE_ID)])
        (claim,) = await claims(members)
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert await traces(database, ADA, ADA_ID) == []
        assert kept.verdicts == ("accepted",)
        assert claim.call.is_read

    async def test_address_known_only_from_a_late_event_is_erased_too(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([exit_(None, at=5)])
        await members.apply([enter(at=1)])
        before = await traces(database, ADA)
        done = await erasures.erase(ADA, leave_lists=True)

        assert before
        assert done == Erased(was_known=True, leaving=(), due_accounts=frozenset())
        assert await traces(database, ADA) == []

    async def test_address_of_many_users_is_erased_without_the_users(
        self, members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
    ) -> None:
        await running("A")
        await running("B")
        shared, users = "nobody@example.com", [f"user-{n}" for n in range(erasing.MOST_USERS + 1)]
        await members.apply([enter(shared, at=n, lytics_id=user) for n, user in enumerate(users)])
        await members.apply([enter(f"{user}@example.com", lytics_id=user, export_id=2) for user in users])
        await erasures.erase(shared, leave_lists=False)
        kept = await members.apply([enter(f"{users[0]}@example.com", at=50, lytics_id=users[0])])
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert await traces(database, shared) == []
        assert (await counts(exports, 2))["members"] == len(users)
        assert kept.verdicts == ("accepted",)

    @pytest.mark.parametrize("is_known_before", [True, False])
    async def test_user_that_moves_during_the_search_is_found(
        self,
        *,
        members: Members,
        erasures: Erasures,
        running: Running,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        is_known_before: bool,
    ) -> None:
        await running("A")
        await running("B")
        await members.apply([enter("old@example.com", at=1, export_id=2), exit_(None, at=2, export_id=2)])
        if is_known_before:
            await members.apply([enter(at=1)])
        search, loop = erasing.last_members_of, asyncio.get_running_loop()

        def search_slowly(connection: Connection, users: set[str]) -> set[int]:
            found = search(connection, users)
            monkeypatch.undo()
            meanwhile(loop, members.apply([enter(at=3), enter("new@example.com", at=4, export_id=2)]))
            return found

        monkeypatch.setattr("app.store.erasure.erasures.last_members_of", search_slowly)
        await erasures.erase(ADA, leave_lists=False)

        assert await traces(database, ADA, ADA_ID, "old@example.com", "new@example.com") == []


class TestTheKey:
    async def test_without_a_key_nothing_is_erased_and_the_error_says_how_to_make_one(
        self, members: Members, running: Running, database: Database, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        keyless = Erasures(database, clock, None)
        before = await everything(database)
        with pytest.raises(Conflict, match=r"secrets\.token_urlsafe.*\.env"):
            await keyless.erase(ADA, leave_lists=True)
        with pytest.raises(Conflict, match="ERASURE_KEY"):
            await keyless.lift(ADA)

        assert await everything(database) == before
        assert await keyless.erased_at(ADA) is None
        assert await keyless.ineffective() == 0

    async def test_addresses_erased_with_another_key_are_counted_once_each(
        self, members: Members, erasures: Erasures, running: Running, database: Database, clock: Clock
    ) -> None:
        await running("A")
        await members.apply([enter()])
        other = Erasures(database, clock, type(DIGESTS)("another key than before"))
        await erasures.erase(ADA, leave_lists=False)
        await other.erase(GRACE, leave_lists=False)
        await other.erase(LOVELACE, leave_lists=False)
        counted = [await instance.ineffective() for instance in (erasures, other, Erasures(database, clock, None))]

        assert counted == [2, 1, 3]

    async def test_only_digests_are_stored(
        self, members: Members, erasures: Erasures, running: Running, database: Database
    ) -> None:
        await running("A")
        await members.apply([enter(at=1), enter(at=2, lytics_id=GRACE_ID)])
        await erasures.erase(ADA, leave_lists=False)
        rows = await database.rows(erasures_table.select())
        expected = {DIGESTS.of_address(ADA), DIGESTS.of_user(ADA_ID), DIGESTS.of_user(GRACE_ID)}

        assert {row.digest for row in rows} == expected
        assert {row.address_digest for row in rows} == {DIGESTS.of_address(ADA)}
        assert {(row.key_id, row.erased_at) for row in rows} == {(DIGESTS.key_id, NOON)}


async def test_erasure_that_fails_at_any_statement_changes_nothing(
    members: Members, erasures: Erasures, running: Running, database: Database
) -> None:
    await running("A")
    await running("B")
    await members.apply([enter(), enter(LOVELACE, export_id=2)])
    await claims(members, 1)
    before = await everything(database)
    last, count = 0, 0

    def fail(connection: Connection, *_: object) -> None:
        nonlocal count
        count += not only_reads(connection)
        if count == last:
            raise ZeroDivisionError

    while True:
        last, count = last + 1, 0
        with intercepting(database, fail):
            try:
                await erasures.erase(ADA, leave_lists=True)
            except ZeroDivisionError:
                is_done = False
            else:
                is_done = True
        if is_done:
            break
        # Neither the failed statement nor a later one was executed.
        assert await everything(database) == before

    assert last > 15
    assert await traces(database, ADA_ID) == []


async def test_timeline_is_deleted_with_its_member(
    members: Members, erasures: Erasures, running: Running, database: Database
) -> None:
    await running("A")
    await members.apply([enter(at=1), enter(at=1)])
    await confirm_due(members)
    await erasures.erase(ADA, leave_lists=True)
    await confirm_due(members)
    ((left,),) = await database.rows(select(func.count()).select_from(journal_table))

    assert left == 0
