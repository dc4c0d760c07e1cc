"""Fills a database with settled members.

The store handles one member, and all others are copies of it. They have no timeline, as after retention.
"""

from functools import partial

from sqlalchemy import BigInteger, Connection, String, cast, func, insert, join, literal, select, text, true, update

from app.store.schema import identities, members, memberships, totals
from tests.bench.bodies import scattered
from tests.bench.report import Log
from tests.bench.store import Store

PORTION = 250_000
# Above the numbers of all people in the load.
FIRST = 1_000_000_000
DIGITS = 12


def fill(store: Store, many: int, log: Log) -> None:
    """Fill an empty database with this many settled members, and update its statistics."""
    store.keep(1)
    store.call(1)
    for first in range(2, many + 1, PORTION):
        last = min(first + PORTION - 1, many)
        store.run(store.database.change(partial(_copy, first=first, last=last)))
        log(f"  {last:,} of {many:,} …")
    store.run(store.database.change(partial(_finish, many=many)))
    store.maintain()


def bytes_of(store: Store) -> int:
    """Return the size of a database on disk."""
    if store.database.is_shared:
        size = select(func.pg_database_size(func.current_database()))
    else:
        size = select(text("page_count * page_size FROM pragma_page_count, pragma_page_size"))
    (row,) = store.run(store.database.rows(size))
    return int(row[0])


def _copy(connection: Connection, *, first: int, last: int) -> None:
    if connection.dialect.name == "postgresql":
        # The rows are consistent, so foreign keys need no check.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
    else:
        connection.execute(text("PRAGMA cache_size = -500000"))
    numbers = select(literal(first, BigInteger).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < last))
    n = numbers.c.n
    # The leading 1 preserves the zeros of the number, and is then cut off.
    digits = func.substr(cast(10**DIGITS + scattered(n + FIRST), String), 2)
    address = literal("person") + digits + literal("@example.com")
    lytics_id = literal("0" * (19 - DIGITS)) + digits
    different = {
        members: {"id": n, "address": address},
        memberships: {"member_id": n, "lytics_id": lytics_id},
        identities: {"member_id": n, "lytics_id": lytics_id},
    }
    for table, values in different.items():
        key = table.c.id if table is members else table.c.member_id
        columns = [values.get(column.name, column) for column in table.columns]
        copies = select(*columns).select_from(join(table, numbers, true())).where(key == 1)
        connection.execute(insert(table).from_select(table.columns.keys(), copies))


def _finish(connection: Connection, *, many: int) -> None:
    counts = ("accepted", "delivered", "members")
    connection.execute(update(totals).values({name: totals.c[name] + many - 1 for name in counts}))
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.setval(func.pg_get_serial_sequence("members", "id"), many)))
    else:
        connection.execute(text("PRAGMA cache_size = -2000"))
