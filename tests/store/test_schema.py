"""The database enforces invariants, and frequent statements use an index."""

import re
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, insert, inspect
from sqlalchemy.exc import IntegrityError

from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import members as table
from tests.factories import ACCOUNT, MINUTE, enter, room, settlement
from tests.store.conftest import Running
from tests.store.recording import add_settled_members, recording


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("update exports set list_name = 'Lytics A' where id = 2", r"exports.account(, exports\.|_)list_name"),
        ("update exports set audience_id = 'A' where id = 2", r"exports.audience_id(, exports\.|_)account"),
        ("update exports set list_name = null where id = 1", "ck_exports_running_has_list"),
        ("update exports set state = 'asleep'", "ck_exports_state"),
        ("update totals set accepted = accepted + 1", "ck_totals_add_up"),
        ("update totals set pending = -1, delivered = 2 where export_id = 1", "ck_totals_not_negative"),
        ("update totals set members = -1", "ck_totals_not_negative"),
        ("update memberships set told_revision = revision + 1", "ck_memberships_told_revision"),
        ("update memberships set told = 'perhaps'", "ck_memberships_told"),
        ("update memberships set dead_code = '11'", "ck_memberships_dead_is_not_pending"),
        ("update memberships set moved_message_at_ns = null", "ck_memberships_move_is_whole"),
        ("update members set lease = 1, due_at = null", "ck_members_leased_is_due"),
        ("insert into members (address, account) select address, account from members", "members.address"),
        ("update identities set is_enter = false", "ck_identities_holds_while_in"),
        ("delete from members", "(?i)foreign key"),
        ("delete from exports", "(?i)foreign key"),
    ],
)
async def test_constraints(database: Database, members: Members, running: Running, statement: str, rule: str) -> None:
    """The invariants: exports share no list, counts add up, confirmed revisions exist, leases have an end."""
    await running("A")
    await running("B")
    await members.apply([enter()])
    with pytest.raises(IntegrityError) as refused:
        await database.write(lambda connection: connection.exec_driver_sql(statement))

    assert re.search(rule, str(refused.value.orig))


@pytest.mark.parametrize("name", ["memberships", "identities", "journal"])
async def test_frequent_rows_do_not_lock_their_export(
    database: Database, running: Running, kind: str, name: str
) -> None:
    """PostgreSQL would lock it to check the reference. SQLite has no row locks, and enforces the reference."""
    await running("A")

    def checked(connection: Connection) -> bool:
        keys = inspect(connection).get_foreign_keys(name)
        return any(key["referred_table"] == "exports" for key in keys)

    assert await database.read(checked) is (kind == "sqlite")


async def test_error_of_a_refused_statement_contains_no_value(
    database: Database, members: Members, running: Running
) -> None:
    """A log can therefore not contain an address."""
    await running("A")
    await members.apply([enter()])
    with pytest.raises(IntegrityError) as refused:
        await database.write(
            lambda connection: connection.execute(insert(table), {"address": "ada@example.com", "account": ACCOUNT})
        )

    assert "ada@example.com" not in str(refused.value)


async def test_claim_reads_only_due_members(database: Database, members: Members, running: Running) -> None:
    """They are read in the order of a partial index, so the cost does not grow with settled members."""
    await running("A")
    await members.apply([enter(f"due{n}@example.com", lytics_id=str(n)) for n in range(500)])
    await add_settled_members(database)
    with recording(database) as recorded:
        await members.claim(ACCOUNT, capacity=room(5), lease_for=MINUTE)
    taken, *_ = recorded.all

    assert "ix_members_due" in str(taken.plan)
    assert not taken.is_sorted
    assert recorded.scanned("members", "memberships") == set()


async def test_claim_does_not_use_the_pending_index_after_a_backlog_has_grown(
    database: Database, members: Members, running: Running
) -> None:
    """PostgreSQL collected statistics while nothing was pending, so it takes that index for empty.

    Reading the index for each claimed member would cost more with every pending change.
    """
    await running("A")
    await add_settled_members(database)
    await members.apply([enter(f"due{n}@example.com", lytics_id=str(n)) for n in range(500)])
    with recording(database) as recorded:
        claims = await members.claim(ACCOUNT, capacity=room(200), lease_for=MINUTE)

    assert len(claims) == 200
    assert "_pending" not in recorded.plans


@pytest.mark.parametrize(
    "operation", ["apply", "claim", "begin", "settle", "next_due_at", "next_batch", "find_by_address"]
)
async def test_frequent_work_scans_no_table(
    database: Database, members: Members, exports: Exports, running: Running, operation: str
) -> None:
    """The database has many settled members."""
    await running("A")
    nameless = await exports.start("B", audience_slug="b", account=ACCOUNT)
    await members.apply([enter(), enter(export_id=nameless.id)])
    await exports.name(nameless.id, "B", "Lytics B")
    (claimed,) = await members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    await members.apply([enter("grace@example.com", lytics_id="grace")])
    await add_settled_members(database)
    work: dict[str, Callable[[], Awaitable[object]]] = {
        "apply": lambda: members.apply([enter(at=1)]),
        "claim": lambda: members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE),
        "begin": lambda: members.begin(claimed, claimed.call, until=claimed.leased_until),
        "settle": lambda: members.settle(settlement(claimed)),
        "next_due_at": lambda: members.next_due_at(ACCOUNT),
        "next_batch": lambda: members.next_batch(nameless.id),
        "find_by_address": lambda: members.find_by_address("ada@example.com"),
    }
    with recording(database) as recorded:
        await work[operation]()

    assert any(table in recorded.plans for table in ("members", "memberships"))
    assert recorded.scanned("members", "memberships", "identities") == set()
