"""Dead letters: pages, newer changes, redrives, and counts that add up after each step."""

import random

import pytest
from sqlalchemy import func, select, update

from app.domain.call import Claim
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members import rows
from app.store.members.dead_letters import DeadLetters, Filter, Place, Redriven
from app.store.members.members import Members
from app.store.schema import exports as exports_table
from app.store.schema import members as members_table
from app.store.schema import minute_counts, totals
from tests.factories import (
    ACCOUNT,
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    HOUR,
    LOVELACE,
    MINUTE,
    NOON,
    Clock,
    Effect,
    enter,
    exit_,
    room,
    settlement,
)
from tests.sizes import size
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, counts, held
from tests.store.recording import intercepting

LOVELACE_ID = "15000000000000000003"
USERS = ((ADA, ADA_ID), (GRACE, GRACE_ID), (LOVELACE, LOVELACE_ID))


@pytest.fixture
def dead_letters(database: Database, clock: Clock) -> DeadLetters:
    return DeadLetters(database, clock)


async def claims(members: Members) -> list[Claim]:
    return await members.claim(ACCOUNT, capacity=room(100), lease_for=MINUTE)


async def set_state(database: Database, export_id: int, state: str) -> None:
    statement = update(exports_table).where(exports_table.c.id == export_id).values(state=state)
    await database.write(lambda connection: connection.execute(statement))


async def give_up(members: Members, code: str = "11") -> None:
    """Give up all pending changes."""
    for claim in await claims(members):
        dead = {pending.export_id: code for pending in claim.pending}
        await members.settle(settlement(claim, Effect.NONE, outcome=code, dead=dead, is_spent=True))


async def test_dead_letter_shows_address_list_code_and_time(
    members: Members, dead_letters: DeadLetters, running: Running
) -> None:
    await running("A")
    await members.apply([enter()])
    await give_up(members)
    (letter,) = await dead_letters.page(Filter())

    assert (letter.place, letter.account, letter.list_name) == (Place(1, 1), ACCOUNT, "Lytics A")
    assert (letter.address, letter.code, letter.desired, letter.dead_at) == (ADA, "11", True, NOON)


async def test_pages_have_no_gap_and_no_repetition(
    members: Members, dead_letters: DeadLetters, running: Running
) -> None:
    await running("A")
    await running("B")
    await members.apply([enter(f"p{n}@example.com", lytics_id=str(n), export_id=1 + n % 2) for n in range(7)])
    await give_up(members)
    seen: list[Place] = []
    while page := await dead_letters.page(Filter(), after=seen[-1] if seen else None, size=2):
        seen += [letter.place for letter in page]

    assert len(seen) == 7
    assert seen == sorted(set(seen))


async def test_newer_change_replaces_a_dead_letter(
    members: Members, exports: Exports, dead_letters: DeadLetters, running: Running, database: Database
) -> None:
    """The dead letter is superseded, and there is nothing left to redrive."""
    await running("A")
    await members.apply([enter(at=1)])
    await give_up(members)
    before = await counts(exports)
    await members.apply([exit_(at=2)])
    after = await counts(exports)
    await assert_all_adds_up(database, exports)

    assert before == {"accepted": 1, "dead": 1, "members": 1}
    assert after == {"accepted": 2, "superseded": 1, "pending": 1}
    assert await dead_letters.page(Filter()) == []
    assert (await dead_letters.redrive(Filter())).count == 0


async def test_redrive_starts_over_and_twice_is_harmless(
    *,
    members: Members,
    exports: Exports,
    dead_letters: DeadLetters,
    running: Running,
    journal: Journal,
    clock: Clock,
    database: Database,
) -> None:
    """The member is due at once, and its attempts and failures are reset. The timeline shows the redrive."""
    await running("A")
    await members.apply([enter()])
    await give_up(members)
    clock.advance(HOUR)
    first = await dead_letters.redrive(Filter())
    pending = await held(members, ADA)
    second = await dead_letters.redrive(Filter())
    await assert_all_adds_up(database, exports)
    waiting = await counts(exports)
    (claim,) = await claims(members)
    await members.settle(settlement(claim))
    lines = [line for _, line in await journal.timeline(ADA)]

    assert first == Redriven(1, frozenset({ACCOUNT}))
    assert second == Redriven(0, frozenset())
    assert (pending.is_pending, pending.dead_code, pending.dead_at, pending.first_failed_at) == (True, None, None, None)
    assert waiting == {"accepted": 1, "pending": 1, "members": 1}
    assert claim.attempts == 1
    assert await counts(exports) == {"accepted": 1, "delivered": 1, "members": 1}
    assert [(line.what, line.at, line.detail) for line in lines if line.what == "redriven"] == [
        ("redriven", NOON + HOUR, {"code": "11"})
    ]


@pytest.mark.parametrize(
    ("which", "redriven"),
    [
        (Filter(), 4),
        (Filter(code="11"), 2),
        (Filter(export_id=1), 3),
        (Filter(address=ADA), 2),
        (Filter(export_id=1, code="99"), 2),
        (Filter(export_id=2, address=ADA), 1),
        (Filter(code="11", address=GRACE), 0),
        (Filter(export_id=3), 0),
    ],
)
async def test_only_matching_dead_letters_are_redriven(
    *,
    members: Members,
    exports: Exports,
    dead_letters: DeadLetters,
    running: Running,
    database: Database,
    which: Filter,
    redriven: int,
) -> None:
    """`count`, `page` and `redrive` select the same dead letters."""
    await running("A")
    await running("B")
    await members.apply([enter(), enter(export_id=2)])
    await give_up(members, "11")
    await members.apply([enter(GRACE, lytics_id=GRACE_ID), enter(LOVELACE, lytics_id=LOVELACE_ID)])
    await give_up(members, "99")
    counted, shown = await dead_letters.count(which), len(await dead_letters.page(which))
    done = (await dead_letters.redrive(which)).count
    await assert_all_adds_up(database, exports)

    assert (counted, shown, done) == (redriven, redriven, redriven)
    assert await dead_letters.count(Filter()) == 4 - redriven


async def test_redrive_of_a_paused_export_makes_no_member_due(
    members: Members, exports: Exports, dead_letters: DeadLetters, running: Running, database: Database
) -> None:
    """A stopped export keeps its dead letters."""
    await running("A")
    await running("B")
    await members.apply([enter(), enter(GRACE, lytics_id=GRACE_ID, export_id=2)])
    await give_up(members)
    for export_id, state in ((1, "paused"), (2, "stopped")):
        await set_state(database, export_id, state)
    counted = await dead_letters.count(Filter())
    done = await dead_letters.redrive(Filter())

    assert (counted, done.count, done.due_accounts) == (1, 1, frozenset())
    assert await members.next_due_at(ACCOUNT) is None
    assert [letter.address for letter in await dead_letters.page(Filter())] == [GRACE]


async def test_redriven_member_in_flight_is_called_again_afterwards(
    members: Members, exports: Exports, dead_letters: DeadLetters, running: Running, database: Database
) -> None:
    """The lease and its attempts stay. The settlement then finds a pending change."""
    await running("A")
    await running("B")
    await members.apply([enter()])
    await give_up(members)
    await members.apply([enter(export_id=2)])
    (held_one,) = await claims(members)
    await dead_letters.redrive(Filter())
    meanwhile = await claims(members)
    settled = await members.settle(settlement(held_one))
    (again,) = await claims(members)
    await assert_all_adds_up(database, exports)

    assert meanwhile == []
    assert settled.due_at == NOON
    assert [pending.export_id for pending in again.pending] == [1]


async def test_redrive_that_fails_halfway_changes_nothing(
    *,
    members: Members,
    exports: Exports,
    dead_letters: DeadLetters,
    running: Running,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A redrive is one transaction."""
    monkeypatch.setattr(rows, "KEYS_PER_STATEMENT", 3)
    await running("A")
    await members.apply([enter(f"p{n}@example.com", lytics_id=str(n)) for n in range(8)])
    await give_up(members)
    before = await counts(exports)
    updates: list[str] = []

    def fail(*call: object) -> None:
        if str(call[2]).startswith("UPDATE memberships"):
            updates.append("")
            if len(updates) == 3:
                raise RuntimeError("the third part")

    with intercepting(database, fail), pytest.raises(RuntimeError):
        await dead_letters.redrive(Filter())
    after, left = await counts(exports), await dead_letters.count(Filter())
    done = await dead_letters.redrive(Filter())
    await assert_all_adds_up(database, exports)

    assert (after, left) == (before, 8)
    assert done.count == 8
    assert (await counts(exports))["pending"] == 8


@pytest.mark.parametrize("seed", range(size(2, 8)))
async def test_counts_add_up_after_every_step_of_any_history(
    *,
    members: Members,
    exports: Exports,
    dead_letters: DeadLetters,
    running: Running,
    database: Database,
    clock: Clock,
    seed: int,
) -> None:
    """The totals equal the rows and the sums of the minute counts."""
    dice = random.Random(seed)
    await running("A")
    await running("B")
    died = 0
    for _ in range(60):
        address, lytics_id = dice.choice(USERS)
        export_id, at = dice.randint(1, 2), dice.randint(0, 60)
        match dice.choice(["keep", "keep", "confirm", "give up", "retry", "redrive"]):
            case "keep":
                move = enter(address, at=at, lytics_id=lytics_id, export_id=export_id)
                leave = exit_(address, at=at, lytics_id=lytics_id, export_id=export_id)
                await members.apply([dice.choice([move, leave])])
            case "confirm":
                for claim in await claims(members):
                    await members.settle(settlement(claim))
            case "give up":
                before = await dead_letters.count(Filter())
                await give_up(members, dice.choice(["11", "99"]))
                died += await dead_letters.count(Filter()) - before
            case "retry":
                for claim in await claims(members):
                    await members.settle(settlement(claim, Effect.UNKNOWN, retry_at=clock(), is_spent=True))
            case _:
                which = dice.choice([Filter(), Filter(code="11"), Filter(export_id=export_id), Filter(address=address)])
                expected = await dead_letters.count(which)

                assert (await dead_letters.redrive(which)).count == expected
        clock.advance(MINUTE / 3)
        await assert_all_adds_up(database, exports)

    names = ("accepted", "delivered", "superseded", "stale")
    (minutes,) = await database.rows(select(*(func.sum(minute_counts.c[name]) for name in names)))
    (whole,) = await database.rows(select(*(func.sum(totals.c[name]) for name in names)))
    ((dead,),) = await database.rows(select(func.sum(minute_counts.c.dead)))
    moments = await database.rows(select(minute_counts.c.minute).distinct())
    assert tuple(minutes) == tuple(whole)
    assert dead == died > 0
    assert all(moment.second == 0 for (moment,) in moments)


async def test_redrive_leaves_the_due_time_of_a_retry(
    members: Members, dead_letters: DeadLetters, running: Running, database: Database
) -> None:
    """The next call of the member, due later for another list, includes the redriven list."""
    await running("A")
    await running("B")
    await members.apply([enter()])
    await give_up(members)
    await members.apply([enter(export_id=2)])
    later = update(members_table).values(due_at=NOON + MINUTE, attempts=5)
    await database.write(lambda connection: connection.execute(later))
    await dead_letters.redrive(Filter())

    assert await members.next_due_at(ACCOUNT) == NOON + MINUTE
    assert {report.attempts for report in await members.find_by_address(ADA)} == {0}
