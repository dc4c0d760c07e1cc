"""Prepared statements have the same effect on many rows as plain statements on single rows."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, Table, bindparam, literal_column, null, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from app.domain.errors import StoreUnavailable
from app.store.database.engine import Database
from app.store.database.postgresql import PostgresqlTransactions
from app.store.database.prepared import Prepared, Statement
from app.store.database.statements import among, insert_or_nothing, upsert, upsert_adding
from app.store.exports.exports import Exports
from app.store.schema import journal, members, memberships, minute_counts, totals, unexported
from tests.factories import ACCOUNT, MINUTE, NOON
from tests.store.recording import recording

MAKE = Prepared(lambda connection: insert_or_nothing(connection, members), "account", "address")
OF_ADDRESSES = Prepared(
    select(members.c.address, members.c.id).where(among(members.c.address, "addresses")).order_by(members.c.address),
    "addresses",
)


async def test_values_are_converted_by_the_types_of_their_columns(database: Database) -> None:
    """Times, JSON and NULL are converted in both directions."""
    names = ("at", "member_id", "export_id", "what", "detail")
    write = Prepared(journal.insert(), *names)
    read = Prepared(select(*(journal.c[name] for name in names)).where(journal.c.id >= bindparam("first")), "first")
    lines = [
        (NOON, 1, None, "called", {"lists": ["Lytics Spring Buyers"]}),
        (NOON + MINUTE, 1, None, "answered", {}),
    ]
    await database.write(lambda connection: MAKE.run(connection, [(ACCOUNT, "ada@example.com")]))
    await database.write(lambda connection: write.run(connection, lines))
    found = await database.read(lambda connection: read.fetch(connection, 0))

    assert [tuple(row) for row in found] == lines
    assert found[0].what == "called"
    assert [tuple(row) for row in await database.rows(select(*(journal.c[name] for name in names)))] == lines


async def test_no_rows_run_no_statement(database: Database) -> None:
    wrong = Prepared(members.insert(), "no such column")

    await database.write(lambda connection: wrong.run(connection, []))


async def test_names_may_have_another_order_than_in_the_sql(database: Database) -> None:
    """Constants of the statement keep their values."""
    turned = Prepared(
        update(members)
        .where(members.c.address == bindparam("b_address"), members.c.account == literal_column("'default'"))
        .values(due_at=bindparam("b_due"), priority=bindparam("b_priority"), attempts=literal_column("7")),
        "b_address",
        "b_priority",
        "b_due",
    )
    found = Prepared(
        select(members.c.address).where(
            members.c.priority == bindparam("b_priority"), members.c.due_at >= bindparam("b_due")
        ),
        "b_due",
        "b_priority",
    )
    people = [(ACCOUNT, "ada@example.com"), (ACCOUNT, "grace@example.com"), ("other", "ada@example.com")]
    await database.write(lambda connection: MAKE.run(connection, people))
    due = [("ada@example.com", 1, NOON), ("grace@example.com", 0, NOON + MINUTE)]
    await database.write(lambda connection: turned.run(connection, due))
    columns = (members.c.account, members.c.address, members.c.priority, members.c.due_at, members.c.attempts)
    rows = await database.rows(select(*columns).order_by(members.c.id))

    assert [tuple(row) for row in rows] == [
        (ACCOUNT, "ada@example.com", 1, NOON, 7),
        (ACCOUNT, "grace@example.com", 0, NOON + MINUTE, 7),
        ("other", "ada@example.com", 0, None, 0),
    ]
    assert await database.read(lambda connection: found.fetch(connection, NOON, 1)) == [("ada@example.com",)]


async def test_unknown_parameter_names_are_refused(database: Database) -> None:
    """Otherwise their values would be lost silently."""
    wrong = Prepared(update(members).values(due_at=bindparam("b_due")), "b_due", "b_id")

    with pytest.raises(ValueError, match="b_id"):
        await database.write(lambda connection: wrong.run(connection, [(NOON, 1)]))


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_refused_row_raises_the_driver_error_without_values(database: Database, *, is_ordered: bool) -> None:
    """The class of the error distinguishes a bug from an unavailable database."""
    plain = Prepared(members.insert(), "account", "address", is_ordered=is_ordered)
    twice = [(ACCOUNT, "ada@example.com")] * 2
    with pytest.raises(IntegrityError) as refused:
        await database.write(lambda connection: plain.run(connection, twice))

    assert "ada@example.com" not in str(refused.value)
    assert await database.rows(select(members)) == []


@pytest.mark.parametrize(("kind", "error"), [("sqlite", StoreUnavailable), ("postgresql", ProgrammingError)])
async def test_missing_table(database: Database, kind: str, error: type[Exception]) -> None:
    """SQLite raises the same class of error for a full disk."""
    nowhere = Prepared(minute_counts.insert(), *minute_counts.columns.keys())
    await database.write(lambda connection: connection.exec_driver_sql("drop table minute_counts"))
    with pytest.raises(error) as away:
        await database.write(lambda connection: nowhere.run(connection, [(1, NOON, 1, 1, 1, 1, 1)]))

    if kind == "sqlite":
        assert "could not be used (OperationalError)" in str(away.value)


async def test_list_of_any_length_is_one_parameter(database: Database) -> None:
    """The lists are empty, have a duplicate, or are longer than the limit of parameters."""
    addresses = [f"person{n:06d}@example.com" for n in range(40_000)]
    await database.write(lambda connection: MAKE.run(connection, [(ACCOUNT, address) for address in addresses[::1000]]))

    async def found(listed: list[str]) -> list[str]:
        return [row.address for row in await database.read(lambda connection: OF_ADDRESSES.fetch(connection, listed))]

    assert await found([]) == []
    assert await found([addresses[1000], addresses[1000], addresses[1]]) == [addresses[1000]]
    assert await found(addresses) == addresses[::1000]


Rows = list[tuple[object, ...]]
LONG = "x" * 256


@dataclass(frozen=True, slots=True)
class Case:
    """What one statement does for many rows.

    Args:
        first: rows that exist before.
        after: all rows of the table afterwards, in the order of its key.
    """

    statement: Callable[[Connection], Statement]
    table: Table
    names: tuple[str, ...]
    first: Rows
    rows: Rows
    after: Rows


def all_of(table: Table) -> tuple[str, ...]:
    return tuple(table.columns.keys())


def membership(member_id: int, **other: object) -> tuple[object, ...]:
    held: dict[str, object] = dict.fromkeys(all_of(memberships))
    held |= {"member_id": member_id, "export_id": 1, "desired": True, "confirmed": "never", "vars": {}}
    held |= {"revision": 1, "confirmed_revision": 0}
    return tuple((held | other).values())


HELD = membership(
    1,
    moved_at_ns=2**62,
    moved_message_at_ns=-5,
    lytics_id=LONG,
    vars={"a": [1, None, 2.5, {"b": "ü\\ \"{,}'"}], "none": None},
    confirmed_at=NOON,
)
LEFT = membership(
    2, desired=False, confirmed="out", lytics_id='NULL, "{},\\', vars={"x": LONG}, accepted_at=NOON + MINUTE
)
CASES = {
    "insert": Case(lambda _: memberships.insert(), memberships, all_of(memberships), [], [HELD, LEFT], [HELD, LEFT]),
    "insert some columns": Case(
        lambda _: members.insert(),
        members,
        ("account", "address", "due_at"),
        [],
        [("other", LONG, None), ("other", "", NOON)],
        [
            (1, ACCOUNT, "a@example.com", None, 0, 0, None),
            (2, ACCOUNT, "b@example.com", None, 0, 0, None),
            (3, "other", LONG, None, 0, 0, None),
            (4, "other", "", NOON, 0, 0, None),
        ],
    ),
    "insert or nothing": Case(
        lambda connection: insert_or_nothing(connection, unexported),
        unexported,
        all_of(unexported),
        [("A", "first", 1, NOON)],
        [("A", "second", 2, NOON), ("B", "b", 3, NOON + MINUTE), ("B", "again", 4, NOON)],
        [("A", "first", 1, NOON), ("B", "b", 3, NOON + MINUTE)],
    ),
    "upsert": Case(
        lambda connection: upsert(connection, memberships),
        memberships,
        all_of(memberships),
        [membership(1, vars={"old": 1}, dead_at=NOON, erasure="e")],
        [HELD, LEFT],
        [HELD, LEFT],
    ),
    "upsert to nothing": Case(
        lambda connection: upsert(connection, memberships),
        memberships,
        all_of(memberships),
        [HELD, LEFT],
        [membership(2), membership(1)],
        [membership(1), membership(2)],
    ),
    "upsert adding": Case(
        lambda connection: upsert_adding(connection, minute_counts),
        minute_counts,
        all_of(minute_counts),
        [(1, NOON, 1, 2, 3, 4, 5)],
        [(1, NOON, 10, 20, 30, 40, 2**40), (1, NOON + MINUTE, 1, 0, 0, 0, 0)],
        [(1, NOON, 11, 22, 33, 44, 5 + 2**40), (1, NOON + MINUTE, 1, 0, 0, 0, 0)],
    ),
    "update": Case(
        lambda _: (
            update(memberships)
            .where(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == literal_column("1"))
            .values(
                vars=bindparam("b_vars"),
                confirmed_at=bindparam("b_at"),
                confirmed_vars=null(),
                lytics_id=bindparam("b_id"),
            )
        ),
        memberships,
        ("b_vars", "b_at", "b_id", "b_member"),
        [HELD, LEFT],
        [({"new": LONG}, NOON + MINUTE, None, 1), ({}, None, LONG, 2), ({}, None, None, 3)],
        [
            membership(1, moved_at_ns=2**62, moved_message_at_ns=-5, vars={"new": LONG}, confirmed_at=NOON + MINUTE),
            membership(2, desired=False, confirmed="out", lytics_id=LONG, accepted_at=NOON + MINUTE),
        ],
    ),
    "update adding": Case(
        lambda _: (
            update(totals)
            .where(totals.c.export_id == bindparam("b_id"))
            .values(accepted=totals.c.accepted + bindparam("b_more"), pending=totals.c.pending + bindparam("b_more"))
        ),
        totals,
        ("b_more", "b_id"),
        [],
        [(3, 1), (2**40, 2)],
        [(1, 3, 0, 0, 3, 0, 0, 0, 0, 0, None), (2, 2**40, 0, 0, 2**40, 0, 0, 0, 0, 0, None)],
    ),
}


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_many_rows_in_one_statement_have_the_same_effect_as_single_rows(
    database: Database, exports: Exports, case: Case, *, is_ordered: bool
) -> None:
    """The cases cover each kind of statement, with NULL, JSON, times, large numbers and special characters."""
    for audience in ("A", "B"):
        await exports.start(audience, audience_slug="", account=ACCOUNT)
    people = [(ACCOUNT, "a@example.com"), (ACCOUNT, "b@example.com")]
    first = [dict(zip(all_of(case.table), row, strict=True)) for row in case.first]
    many = Prepared(case.statement, *case.names, is_ordered=is_ordered)

    def run(connection: Connection) -> None:
        MAKE.run(connection, people)
        if first:
            connection.execute(case.table.insert(), first)
        many.run(connection, case.rows)

    with recording(database) as recorded:
        await database.write(run)
    rows = await database.rows(select(case.table).order_by(*case.table.primary_key))

    assert [tuple(row) for row in rows] == case.after
    if isinstance(database._transactions, PostgresqlTransactions):
        # The last statement is the tested one.
        assert ("unnest" in recorded.statements[-1]) is not is_ordered


STRANGE = [
    "", " ", "NULL", "null", "{", "}", "{}", ",", '"', '""', "\\", "\\\\", '\\"', "'", "''", "$1", "\\x41", "\\n",
    "\n", "\t", "\r\n", " a ", "a,b", "{a,b}", '{"a":1}', "ä", "\u2028", "\U0001f600", "\x01", "\x7f", "%s", ":name",
    "?", "\ufeff", "\u0130",
]  # fmt: skip


async def test_special_strings_are_stored_unchanged(database: Database) -> None:
    """This includes strings in JSON and random combinations."""
    dice = random.Random(1)
    strings = STRANGE + ["".join(dice.choices(STRANGE, k=5)) for _ in range(300)]
    audiences = [f"{number:04}{string}" for number, string in enumerate(strings)]
    save = Prepared(unexported.insert(), *all_of(unexported))
    lines = Prepared(journal.insert(), "at", "member_id", "export_id", "what", "detail")
    rows = [(name, string, 1, NOON) for name, string in zip(audiences, strings, strict=True)]
    details: list[dict[str, object]] = [{string: string} for string in strings]

    def write(connection: Connection) -> None:
        MAKE.run(connection, [(ACCOUNT, "ada@example.com")])
        save.run(connection, rows)
        lines.run(connection, [(NOON, 1, None, "called", detail) for detail in details])

    await database.write(write)
    found = await database.rows(select(unexported.c.audience_id, unexported.c.audience_slug))

    assert dict(tuple(row) for row in found) == dict(zip(audiences, strings, strict=True))
    assert [row.detail for row in await database.rows(select(journal.c.detail).order_by(journal.c.id))] == details


@pytest.mark.parametrize("kind", ["postgresql"])
async def test_text_with_a_zero_byte_is_refused_not_truncated(database: Database) -> None:
    save = Prepared(unexported.insert(), *all_of(unexported))
    with pytest.raises(DBAPIError):
        await database.write(lambda connection: save.run(connection, [("a\0b", "", 1, NOON)]))

    assert await database.rows(select(unexported)) == []


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("kind", ["postgresql"])
async def test_long_string_is_refused_not_truncated(database: Database, *, is_ordered: bool) -> None:
    """In a condition, a long string does not match its truncated form."""
    plain = Prepared(members.insert(), "account", "address", is_ordered=is_ordered)
    find = Prepared(
        update(members).where(members.c.address == bindparam("b_address")).values(attempts=bindparam("b_attempts")),
        "b_attempts",
        "b_address",
        is_ordered=is_ordered,
    )
    longest = "x" * 320
    with pytest.raises(DBAPIError, match="too long"):
        await database.write(lambda connection: plain.run(connection, [(ACCOUNT, "a"), (ACCOUNT, longest + "x")]))
    none = await database.rows(select(members))
    await database.write(lambda connection: plain.run(connection, [(ACCOUNT, longest)]))
    await database.write(lambda connection: find.run(connection, [(7, longest + "x"), (8, longest + " ")]))

    assert none == []
    assert [row.attempts for row in await database.rows(select(members))] == [0]
    assert await database.read(lambda connection: OF_ADDRESSES.fetch(connection, [longest + "x"])) == []


@pytest.mark.parametrize("kind", ["postgresql"])
async def test_duplicate_row_in_one_statement_is_reported_as_a_bug(database: Database) -> None:
    """PostgreSQL refuses such a statement. A retry would not help, so the database does not count as unavailable."""
    save = Prepared(lambda connection: upsert(connection, unexported), *all_of(unexported))
    rows = [("A", "first", 1, NOON), ("A", "last", 2, NOON + MINUTE)]

    with pytest.raises(DBAPIError, match="a second time"):
        await database.write(lambda connection: save.run(connection, rows))
