"""Pages of a scan: a dry run counts exactly the changes of a real run."""

import asyncio
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, text

from app.domain.backfill import Backfill, BackfillState, Page
from app.domain.change import Kind, MembershipChange
from app.domain.erasure import Digests
from app.store.backfills.backfills import Backfills
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import dry_run_people, metadata, versions
from tests.factories import ACCOUNT, MINUTE, NOON, Clock, Effect, change, enter, exit_, ns, room, settlement
from tests.sizes import size
from tests.store.conftest import Running

PEOPLE = st.integers(0, 5)
VARS = st.sampled_from([{}, {"x": 1}, {"x": 2}])
# Before, at and after the event time of the scan.
TIMES = st.sampled_from([-900, -300, -200, 0])


def address_of(person: int) -> str:
    return f"p{person}@example.com"


def row(user: int, values: dict[str, object]) -> MembershipChange:
    """Return a scanned row. Users 4 and 5 share an address, and user 3 has no id."""
    moment, address = ns(-300), address_of(min(user, 4))
    user_id = None if user == 3 else str(user)
    return MembershipChange(1, Kind.ENTER, address, user_id, moment, moment, values, by_scan=True)


ROWS = st.builds(row, PEOPLE, VARS)
PAGES = st.lists(st.lists(ROWS, max_size=5), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.builds(
            lambda p, u, at, v: enter(address_of(p), at=at, lytics_id=str(u), vars=v), PEOPLE, PEOPLE, TIMES, VARS
        ),
        st.builds(lambda p, u, at: exit_(address_of(p), at=at, lytics_id=str(u)), PEOPLE, PEOPLE, TIMES),
        st.builds(lambda p, at, v: change(address_of(p), message=at, lytics_id=str(p), vars=v), PEOPLE, TIMES, VARS),
        st.sampled_from(["tell", "fail", "lose"]),
        st.builds(lambda p: ("erase", p), PEOPLE),
    ),
    max_size=12,
)


async def run(backfills: Backfills, pages: list[list[MembershipChange]], *, is_dry_run: bool) -> Backfill:
    """Run a backfill of export 1 to its end."""
    backfill = await backfills.open(1, is_dry_run=is_dry_run)
    ((backfill, lease),) = [(c.backfill, c.lease) for c in await backfills.claim(lease_for=MINUTE, limit=1)]
    for number, changes in enumerate(pages, start=1):
        following = str(number) if number < len(pages) else None
        page = Page(changes, Counter(), following, 99, NOON - timedelta(minutes=5))
        kept = await backfills.save_page(backfill, page, lease=lease)
        assert kept is not None
        backfill, _ = kept
    return backfill


async def prepare(members: Members, erasures: Erasures, steps: list[object]) -> None:
    for step in steps:
        if isinstance(step, MembershipChange):
            await members.apply([step])
        elif isinstance(step, tuple):
            await erasures.erase(address_of(step[1]), leave_lists=False)
        else:
            for claim in await members.claim(ACCOUNT, capacity=room(9), lease_for=MINUTE):
                if step == "lose":
                    continue
                effect = {"tell": Effect.CONFIRMED, "fail": Effect.NONE}[str(step)]
                dead = {1: "11"} if step == "fail" else {}
                await members.settle(settlement(claim, effect, dead=dead))


async def compared(pages: list[list[MembershipChange]], steps: list[object], url: str) -> None:
    database = Database.open(url)
    try:
        clock, digests = Clock(), Digests("a-key-of-the-tests")
        exports, members = Exports(database, clock), Members(database, clock, digests=digests)
        await database.write(_empty)
        export = await exports.start("A", audience_slug="a", account=ACCOUNT)
        await exports.name(export.id, "A", "Lytics A")
        await prepare(members, Erasures(database, clock, digests), steps)
        backfills = Backfills(database, clock, digests=digests)
        before = await database.read(_everything)
        dry = await run(backfills, pages, is_dry_run=True)
        between = await database.read(_everything)
        real = await run(backfills, pages, is_dry_run=False)
        (report,) = await exports.reports(export.id)
    finally:
        await database.close()

    assert before == between
    confirmed = [(c.address, c.lytics_id, c.vars) for page in pages for c in page]
    assert (dry.queued, dry.skipped) == (real.queued, real.skipped), (confirmed, steps)
    assert real.queued + sum(real.skipped.values()) == real.scanned == sum(map(len, pages))
    assert report.counts["accepted"] == sum(
        report.counts[name] for name in ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
    )


def _empty(connection: Connection) -> None:
    """Empty the server's database after an earlier example. SQLite has a new file for each example."""
    if connection.dialect.name == "postgresql":
        for table in reversed(metadata.sorted_tables):
            if table is not versions:
                connection.execute(table.delete())
        connection.execute(text("alter sequence exports_id_seq restart"))


def _everything(connection: Connection) -> list[object]:
    tables = ("members", "memberships", "identities", "totals", "journal", "minute_counts")
    return [connection.execute(text(f"select * from {table} order by 1, 2")).all() for table in tables]


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=size(40, 200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=PAGES, steps=STEPS)
# A dead letter is scanned with the same fields, then with other fields.
@example(
    pages=[[row(0, {"x": 1})], [row(0, {})]],
    steps=[enter(address_of(0), at=-900, lytics_id="0", vars={"x": 1}), "fail"],
)
def test_dry_run_counts_what_the_run_does_and_changes_nothing(
    migrated_file: Path, pages: list[list[MembershipChange]], steps: list[object]
) -> None:
    # In memory if possible, since this test does not need durability.
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        shutil.copyfile(migrated_file, Path(folder) / "store.db")
        asyncio.run(compared(pages, steps, f"sqlite:///{folder}/store.db"))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", ["postgresql"])
@settings(max_examples=size(6, 30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=PAGES, steps=STEPS)
def test_dry_run_counts_what_the_run_does_on_postgresql(
    database_url: str, pages: list[list[MembershipChange]], steps: list[object]
) -> None:
    asyncio.run(compared(pages, steps, database_url))


async def test_rows_of_an_ended_dry_run_are_deleted(
    database: Database, exports: Exports, running: Running, clock: Clock
) -> None:
    await running("A")
    backfills = Backfills(database, clock)
    counted = select(func.count()).select_from(dry_run_people)
    await run(backfills, [[row(1, {})], [row(1, {}), row(2, {})]], is_dry_run=True)
    during = await database.read(lambda connection: connection.scalar(counted))
    is_more = await backfills.delete_ended_dry_runs()

    assert during == 2
    assert not is_more
    assert await database.read(lambda connection: connection.scalar(counted)) == 0
    assert (await backfills.get(1, 1)).state is BackfillState.COMPLETED
