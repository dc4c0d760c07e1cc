"""Random histories with erasures: the counts add up after each step, and no trace of an erased address remains."""

import random

import pytest
from sqlalchemy import Connection, text

from app.domain.call import Claim
from app.domain.change import MembershipChange
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.members.dead_letters import DeadLetters, Filter
from app.store.members.members import Members
from tests.factories import SECOND, Clock, Effect, after_read, change, enter, exit_, settlement
from tests.sizes import size
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up
from tests.store.erasure.erasing import DIGESTS, LEASE, claims, confirm_due, traces

ADDRESSES = tuple(f"{name}@example.com" for name in ("ada", "grace", "lovelace", "family"))
USERS = ("user-1", "user-2", "user-3", None)
VALUE = "Zyzzyva"
EXPORTS = 3


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock, digests=DIGESTS)


class World:
    """A store with random operations, and a simulated Sailthru with its lists."""

    def __init__(self, database: Database, members: Members, clock: Clock, dice: random.Random) -> None:
        self.database = database
        self.members = members
        self.clock = clock
        self.dice = dice
        self.erasures = Erasures(database, clock, DIGESTS)
        self.dead_letters = DeadLetters(database, clock)
        self.on_list: set[tuple[str, str]] = set()
        self.out: set[str] = set()
        self.under_way: list[Claim] = []

    async def receive(self) -> None:
        """Receive changes of random users, lists and times."""
        made: list[MembershipChange] = []
        for _ in range(self.dice.randint(1, 4)):
            address, user = self.dice.choice(ADDRESSES), self.dice.choice(USERS)
            export_id, at = self.dice.randint(1, EXPORTS), self.dice.randint(0, 500)
            vars_ = {"last_name": f"{VALUE}{at}"}
            one_of_each = (
                enter(address, at=at, lytics_id=user, export_id=export_id, vars=vars_),
                exit_(address, at=at, lytics_id=user, export_id=export_id),
                change(address, message=at, lytics_id=user, export_id=export_id, vars=vars_),
            )
            made.append(self.dice.choice(one_of_each))
        await self.members.apply(made)

    async def claim(self) -> None:
        """Claim due members. Sailthru may carry out each call at once, later or never."""
        busy = {claim.address for claim in self.under_way if claim.leased_until > self.clock()}
        claimed = await claims(self.members, self.dice.randint(1, 3))
        assert busy.isdisjoint(claim.address for claim in claimed)
        self.under_way += claimed

    async def answer(self) -> None:
        """End a call with a random outcome, even if its lease was lost."""
        if not self.under_way:
            return
        claim = self.under_way.pop(self.dice.randrange(len(self.under_way)))
        call = claim.call
        if call.is_read:
            call = after_read(claim, frozenset(name for who, name in self.on_list if who == claim.address))
            if not await self.members.begin(claim, call, until=self.clock() + LEASE):
                return
        effect = self.dice.choice([*Effect, None])
        if effect is Effect.CONFIRMED or (effect is not Effect.NONE and self.dice.random() < 0.5):
            self.on_list |= {(claim.address, name) for name in call.join}
            self.on_list -= {(claim.address, name) for name in call.leave}
        if effect is not None:
            is_dead = effect is Effect.NONE and self.dice.random() < 0.5
            dead = {pending.export_id: "11" for pending in claim.pending} if is_dead else {}
            await self.members.settle(settlement(claim, effect, call=call, dead=dead, is_spent=True))

    async def erase(self) -> None:
        """Erase an address, perhaps again."""
        address = self.dice.choice(ADDRESSES)
        await self.erasures.erase(address, leave_lists=self.dice.random() < 0.5)
        self.out.add(address)

    async def lift(self) -> None:
        address = self.dice.choice(ADDRESSES)
        await self.erasures.lift(address)
        self.out.discard(address)

    async def redrive(self) -> None:
        await self.dead_letters.redrive(Filter())

    async def pause(self) -> None:
        """Pause or resume an export."""
        export_id = self.dice.randint(1, EXPORTS)

        def turn(connection: Connection) -> None:
            state = connection.scalar(text("select state from exports where id = :id"), {"id": export_id})
            new = "paused" if state == "running" else "running"
            connection.execute(
                text("update exports set state = :new, waking_from = :waking where id = :id"),
                {"new": new, "waking": 0 if new == "running" else None, "id": export_id},
            )

        await self.database.write(turn)
        while await self.members.next_batch(export_id, size=2):
            pass

    async def wait(self) -> None:
        """Advance the clock, sometimes by a whole lease."""
        self.clock.advance(self.dice.choice([SECOND, LEASE]))

    async def run_dry(self) -> None:
        """Resume all exports and let every call succeed."""
        run = text("update exports set state = 'running', waking_from = 0")
        await self.database.write(lambda connection: connection.execute(run))
        for export_id in range(1, EXPORTS + 1):
            await self.members.next_batch(export_id)
        for _ in range(4):
            self.clock.advance(LEASE)
            await confirm_due(self.members)


@pytest.mark.parametrize("seed", range(size(2, 5)))
async def test_counts_add_up_after_every_step_and_no_trace_is_left_at_the_end(
    *, members: Members, exports: Exports, running: Running, database: Database, clock: Clock, seed: int
) -> None:
    dice = random.Random(seed)
    for name in "ABC"[:EXPORTS]:
        await running(name)
    world = World(database, members, clock, dice)
    steps = [world.receive] * 5 + [world.claim, world.answer] * 3
    steps += [world.erase, world.lift, world.redrive, world.pause, world.wait, world.wait]
    for _ in range(120):
        await dice.choice(steps)()
        await assert_all_adds_up(database, exports, has_erasures=True)
        assert await values_of_erased(database, world.out) == []
    erased = tuple(world.out)
    await world.run_dry()
    await assert_all_adds_up(database, exports, has_erasures=True)

    assert await members.next_due_at("default") is None
    assert await traces(database, *erased) == []
    # With every address erased, only ids without an address remain.
    for address in ADDRESSES:
        await world.erasures.erase(address, leave_lists=True)
    await world.run_dry()
    await assert_all_adds_up(database, exports, has_erasures=True)

    left = await traces(database, "@example.com", "user-", VALUE)
    assert [line for line in left if not (line.startswith("identities") and line.endswith("False, None)"))] == []


async def values_of_erased(database: Database, out: set[str]) -> list[object]:
    """Return erased memberships with more data than their last call needs."""
    rows = text(
        "select members.address, memberships.* from memberships join members on members.id = member_id"
        " where wanted or lytics_id is not null or cast(vars as text) <> '{}' or dead_code is not null"
        " or erasure is null"
    )
    lines = text("select address, journal.* from journal join members on members.id = member_id")
    found = await database.read(lambda connection: [*connection.execute(rows), *connection.execute(lines)])
    return [row for row in found if row.address in out]
