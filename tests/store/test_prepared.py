"""
Statements that are given to the driver as they are do what they do by SQLAlchemy's own way.
"""

import pytest
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from app.store.differences import among, insert_or_nothing, upsert
from app.store.engine import Database
from app.store.prepared import Prepared
from app.store.schema import journal, members, minute_counts, unexported
from tests.factories import ACCOUNT, MINUTE, NOON

MAKE = Prepared(lambda connection: insert_or_nothing(connection, members), "account", "address")
OF_ADDRESSES = Prepared(
    select(members.c.address, members.c.id).where(among(members.c.address, "addresses")).order_by(members.c.address),
    "addresses",
)


async def test_values_are_converted_as_their_columns_ask_for(database: Database) -> None:
    """
    A time and JSON, on the way in and out; nothing where there is nothing.
    """
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


async def test_no_rows_are_no_statement(database: Database) -> None:
    """
    Nor is one compiled.
    """
    wrong = Prepared(members.insert(), "no such column")

    await database.write(lambda connection: wrong.run(connection, []))


async def test_names_in_another_order_than_in_the_sql_are_refused(database: Database) -> None:
    """
    Values would land in columns that are not theirs.
    """
    turned = Prepared(
        update(members).where(members.c.id == bindparam("b_id")).values(due_at=bindparam("b_due")), "b_id", "b_due"
    )

    with pytest.raises(ValueError, match="in the order"):
        await database.write(lambda connection: turned.run(connection, [(1, NOON)]))


async def test_what_the_driver_refuses_is_the_same_error_and_shows_no_value(database: Database) -> None:
    """
    The store tells a mistake of ours from a database that is away by its class.
    """
    plain = Prepared(members.insert(), "account", "address")
    twice = [(ACCOUNT, "ada@example.com")] * 2
    nowhere = Prepared(minute_counts.insert(), *minute_counts.columns.keys())
    with pytest.raises(IntegrityError) as refused:
        await database.write(lambda connection: plain.run(connection, twice))
    await database.write(lambda connection: connection.exec_driver_sql("drop table minute_counts"))
    with pytest.raises(Exception, match=r"could not be used \(OperationalError\)") as away:
        await database.write(lambda connection: nowhere.run(connection, [(1, NOON, 1, 1, 1, 1, 1)]))

    assert "ada@example.com" not in str(refused.value)
    assert isinstance(away.value.__cause__, OperationalError)
    assert await database.rows(select(members)) == []


async def test_a_list_of_any_length_is_one_parameter(database: Database) -> None:
    """
    None, one, more than a statement takes parameters; a value that is listed twice is found once.
    """
    addresses = [f"person{n:06d}@example.com" for n in range(40_000)]
    await database.write(lambda connection: MAKE.run(connection, [(ACCOUNT, one) for one in addresses[::1000]]))

    async def found(wanted: list[str]) -> list[str]:
        return [row.address for row in await database.read(lambda connection: OF_ADDRESSES.fetch(connection, wanted))]

    assert await found([]) == []
    assert await found([addresses[1000], addresses[1000], addresses[1]]) == [addresses[1000]]
    assert await found(addresses) == addresses[::1000]


async def test_an_upsert_overwrites_all_but_the_key(database: Database) -> None:
    """
    Row by row, the last one of a key wins.
    """
    save = Prepared(lambda connection: upsert(connection, unexported), *unexported.columns.keys())
    rows = [("A", "first", 1, NOON), ("B", "b", 1, NOON), ("A", "last", 2, NOON + MINUTE)]
    await database.write(lambda connection: save.run(connection, rows))

    found = await database.rows(select(unexported).order_by(unexported.c.audience_id))

    assert [tuple(row) for row in found] == [rows[2], rows[1]]
