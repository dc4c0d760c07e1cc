"""
The database holds the invariants, and answers what is asked all the time from an index.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError

from app.store.engine import Database
from app.store.exports import Exports
from app.store.members import Members
from tests.factories import ACCOUNT, MINUTE, enter, room
from tests.store.conftest import Running


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("update exports set list_name = 'Lytics A' where id = 2", "exports.account, exports.list_name"),
        ("update exports set audience_id = 'A' where id = 2", "exports.audience_id, exports.account"),
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
        ("update identities set is_enter = 0", "ck_identities_holds_while_in"),
        ("delete from members", "FOREIGN KEY"),
        ("delete from exports", "FOREIGN KEY"),
    ],
)
async def test_the_database_itself_refuses(
    database: Database, members: Members, running: Running, statement: str, rule: str
) -> None:
    """
    Two exports of one list, counts that don't add up, a settlement of what never was, a lease without an end.
    """
    await running("A")
    await running("B")
    await members.keep([enter()])
    with pytest.raises(IntegrityError) as refused:
        await database.write(lambda connection: connection.exec_driver_sql(statement))

    assert rule in str(refused.value.orig)


async def test_a_refused_statement_shows_no_value_in_its_error(
    database: Database, members: Members, running: Running
) -> None:
    """
    What is logged by mistake tells nobody who it is.
    """
    await running("A")
    await members.keep([enter()])
    with pytest.raises(IntegrityError) as refused:
        await database.write(
            lambda connection: connection.exec_driver_sql(
                "insert into members (address, account) values (?, ?)", ("ada@example.com", ACCOUNT)
            )
        )

    assert "ada@example.com" not in str(refused.value)


async def plans_of(database: Database, work: Callable[[], Awaitable[object]], *tables: str) -> str:
    """
    How the database runs the statements of some work, as far as they touch these tables.
    """
    seen: list[str] = []

    def watch(connection: Any, _record: object, _proxy: object) -> None:
        connection.set_trace_callback(seen.append)

    def look_away(connection: Any, _record: object) -> None:
        connection.set_trace_callback(None)

    engines = [database._read, database._write]
    for engine in engines:
        event.listen(engine, "checkout", watch)
        event.listen(engine, "checkin", look_away)
    await work()
    for engine in engines:
        event.remove(engine, "checkout", watch)
        event.remove(engine, "checkin", look_away)

    def explain(connection: Connection) -> list[str]:
        return [
            row.detail
            for statement in seen
            if statement.startswith(("SELECT", "UPDATE"))
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
        ]

    steps = await database.read(explain)
    return "\n".join(step for step in steps if "TEMP" in step or any(table in step for table in tables))


async def test_a_claim_reads_only_who_is_due(database: Database, members: Members, running: Running) -> None:
    """
    In the order of a partial index: its cost does not grow with who is settled, and nothing is sorted.
    """
    await running("A")
    await members.keep([enter()])
    plans = await plans_of(
        database, lambda: members.claim(ACCOUNT, room=room(5), lease_for=MINUTE), "members", "memberships"
    )

    assert "ix_members_due" in plans
    assert "SCAN" not in plans
    assert "TEMP B-TREE" not in plans


@pytest.mark.parametrize("what", ["keep", "next_due_at", "next_slice", "of_address"])
async def test_nothing_in_the_daily_round_reads_a_whole_table(
    database: Database, members: Members, exports: Exports, running: Running, what: str
) -> None:
    """
    However many members have been settled long ago.
    """
    await running("A")
    nameless = await exports.start("B", audience_slug="b", account=ACCOUNT)
    await members.keep([enter(), enter(export_id=nameless.id)])
    await exports.name(nameless.id, "B")
    work: dict[str, Callable[[], Awaitable[object]]] = {
        "keep": lambda: members.keep([enter(at=1)]),
        "next_due_at": lambda: members.next_due_at(ACCOUNT),
        "next_slice": lambda: members.next_slice(nameless.id),
        "of_address": lambda: members.of_address("ada@example.com"),
    }
    plans = await plans_of(database, work[what], "members", "memberships", "identities")

    assert plans
    assert "SCAN" not in plans
