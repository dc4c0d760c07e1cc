"""Changes of erased addresses and users are ignored and leave no trace. All other changes are stored."""

import asyncio

import pytest
from sqlalchemy import Connection

from app.domain.change import MembershipChange
from app.domain.ledger import BatchResult, Verdict
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.members import rows
from app.store.members.members import Members
from tests.factories import ADA, ADA_ID, GRACE, GRACE_ID, LOVELACE, MINUTE, NOON, Clock, change, enter, exit_
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held
from tests.store.erasure.erasing import DIGESTS, claims, confirm_due, everything, traces
from tests.store.recording import intercepting, meanwhile, only_reads, recording

OTHER_ID = "15000000000000000009"


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock, digests=DIGESTS)


@pytest.fixture
def erasures(database: Database, clock: Clock) -> Erasures:
    return Erasures(database, clock, DIGESTS)


@pytest.mark.parametrize(
    "late",
    [
        enter(at=9),
        enter(at=9, vars={"a": 1}, export_id=2),
        enter(lytics_id=None, at=9),
        enter(lytics_id=OTHER_ID, at=9),
        enter(LOVELACE, at=9),
        enter(at=-9),
        exit_(at=9),
        exit_(None, at=9),
        exit_(at=9, lytics_id=None),
        exit_(at=9, lytics_id=OTHER_ID),
        exit_(LOVELACE, at=9),
        change(message=9),
        change(LOVELACE, message=9),
        change(None, message=9),
        change(message=9, lytics_id=None),
    ],
    ids=repr,
)
async def test_change_for_an_erased_member_is_ignored_and_leaves_no_trace(
    *,
    members: Members,
    erasures: Erasures,
    exports: Exports,
    running: Running,
    database: Database,
    late: MembershipChange,
) -> None:
    """The changes name the address with any user, or the user with any address, on old and new lists."""
    await running("A")
    await running("B")
    await members.apply([enter(at=1), enter(GRACE, lytics_id=GRACE_ID)])
    await erasures.erase(ADA, leave_lists=False)
    before = (await everything(database)).replace("last_event_at", "")
    kept = await members.apply([late])

    assert kept.verdicts == (Verdict.IGNORED,)
    assert kept.due_accounts == frozenset()
    assert await traces(database, ADA, ADA_ID, LOVELACE, OTHER_ID) == []
    # The only effect is that the time of the last event changes.
    assert len((await everything(database)).splitlines()) == len(before.splitlines())
    assert await counts(exports, 2) == {}


async def test_only_the_erased_members_of_a_batch_are_left_out(
    members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
) -> None:
    """Each webhook gets the verdicts of its own changes in order."""
    await running("A")
    await erasures.erase(ADA, leave_lists=False)
    first, second = await asyncio.gather(
        members.apply([enter(GRACE, at=1, lytics_id=GRACE_ID), enter(at=1), exit_(GRACE, at=0, lytics_id=GRACE_ID)]),
        members.apply([enter(lytics_id=None, at=2)]),
    )
    await assert_all_adds_up(database, exports)

    assert first.verdicts == (Verdict.ACCEPTED, Verdict.IGNORED, Verdict.STALE)
    assert second.verdicts == (Verdict.IGNORED,)


async def test_exit_under_an_erased_address_removes_the_other_address_of_its_user(
    members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
) -> None:
    """The exit names an erased address, but its user is known, so the newest change still decides."""
    await running("A")
    await erasures.erase(ADA, leave_lists=False)
    await members.apply([enter(GRACE, at=1, lytics_id=GRACE_ID)])
    kept = [
        (await members.apply([item])).verdicts[0]
        for item in (
            enter(ADA, at=2, lytics_id=GRACE_ID),
            change(ADA, message=7, lytics_id=GRACE_ID),
            exit_(ADA, at=9, lytics_id=GRACE_ID),
            enter(GRACE, at=8, lytics_id=GRACE_ID),
        )
    ]
    await assert_all_adds_up(database, exports)

    assert kept == [Verdict.IGNORED, Verdict.IGNORED, Verdict.ACCEPTED, Verdict.STALE]
    assert not (await held(members, GRACE)).desired
    assert await traces(database, ADA) == []


@pytest.mark.parametrize("is_exit_first", [True, False])
async def test_exit_under_an_erased_address_may_share_a_batch_with_the_enter(
    *,
    members: Members,
    erasures: Erasures,
    exports: Exports,
    running: Running,
    database: Database,
    is_exit_first: bool,
) -> None:
    await running("A")
    await erasures.erase(ADA, leave_lists=False)
    changes = [enter(GRACE, at=1, lytics_id=GRACE_ID), exit_(ADA, at=9, lytics_id=GRACE_ID)]
    await members.apply(changes[::-1] if is_exit_first else changes)
    await assert_all_adds_up(database, exports)

    assert not any(report.membership.desired for report in await members.find_by_address(GRACE))
    assert await traces(database, ADA) == []


async def test_enter_during_an_erasure_does_not_survive_it(
    members: Members, erasures: Erasures, exports: Exports, running: Running, database: Database
) -> None:
    """The enter arrives at any statement of the erasure. In the end the member is deleted and the counts add up."""
    await running("A")
    loop = asyncio.get_running_loop()
    coming: list[asyncio.Task[list[BatchResult]]] = []
    address, statements_left = "", 0

    async def arrive() -> list[BatchResult]:
        return await asyncio.gather(*(members.apply([enter(address, at=at, lytics_id=address)]) for at in range(3)))

    async def begin_to_arrive(*, is_waited_for: bool) -> None:
        coming.append(asyncio.create_task(arrive()))
        if is_waited_for:
            await asyncio.wait(coming)

    def count_down(connection: Connection, *_: object) -> None:
        nonlocal statements_left
        statements_left -= 1
        if statements_left == 0:
            # While the erasure only reads, other transactions may write; while it writes they have to wait.
            meanwhile(loop, begin_to_arrive(is_waited_for=only_reads(connection)))

    verdicts: list[Verdict] = []
    for moment in range(1, 100):
        address, statements_left = f"person{moment:02}@example.com", moment
        with intercepting(database, count_down):
            await erasures.erase(address, leave_lists=False)
            statements_left = 0
        if not coming:
            break
        first, *_ = await coming.pop()
        verdicts += first.verdicts
        await assert_all_adds_up(database, exports, has_erasures=True)

        assert await traces(database, address) == []

    assert len(verdicts) > 10
    assert set(verdicts) == {Verdict.ACCEPTED, Verdict.IGNORED}


async def test_event_of_an_erased_member_still_counts_as_the_last_event(
    members: Members, erasures: Erasures, exports: Exports, running: Running, clock: Clock
) -> None:
    await running("A")
    await erasures.erase(ADA, leave_lists=False)
    clock.advance(MINUTE)
    await members.apply([enter()])
    (report,) = await exports.reports(1)

    assert report.last_event_at == NOON + MINUTE


async def test_without_erasures_the_check_is_one_statement(
    members: Members, erasures: Erasures, running: Running, database: Database
) -> None:
    """With erasures it is two statements for a whole batch, by index."""
    await running("A")
    changes = [enter(f"p{n}@example.com", lytics_id=str(n)) for n in range(50)]
    with recording(database) as recorded:
        await members.apply(changes)
    before = [statement for statement in recorded.statements if "FROM erasures" in statement]
    await erasures.erase(ADA, leave_lists=False)
    with recording(database) as recorded:
        await members.apply(changes)
    after = [statement for statement in recorded.statements if "FROM erasures" in statement]

    assert (len(before), len(after)) == (1, 2)
    assert all("LIMIT" in statement or "digest IN" in statement for statement in (*before, *after))


async def test_large_batch_takes_several_statements(
    members: Members, erasures: Erasures, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases limit the number of keys in a statement."""
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    await running("A")
    for n in range(4):
        await erasures.erase(f"p{n}@example.com", leave_lists=False)
    kept = await members.apply([enter(f"p{n}@example.com", lytics_id=str(n)) for n in range(10)])

    assert kept.verdicts == (Verdict.IGNORED,) * 4 + (Verdict.ACCEPTED,) * 6


async def test_members_unrelated_to_an_erased_one_are_delivered(
    members: Members, erasures: Erasures, running: Running
) -> None:
    await running("A")
    await members.apply([enter(at=1)])
    await erasures.erase(ADA, leave_lists=False)
    await members.apply([enter(GRACE, lytics_id=GRACE_ID)])
    (claim,) = await confirm_due(members)

    assert (claim.address, claim.call.join) == (GRACE, ("Lytics A",))
    assert await claims(members) == []
