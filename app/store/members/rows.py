"""Converts rows of memberships and counts to objects and back."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, func, update

from app.domain.change import Move
from app.domain.counts import Tally
from app.domain.membership import Confirmed, Membership
from app.store.database.prepared import Prepared
from app.store.database.statements import upsert, upsert_adding
from app.store.schema import Moment, memberships, minute_counts, minute_latencies, totals

Key = TypeVar("Key", int, str)

# Both databases accept about 32,000 parameters per statement.
KEYS_PER_STATEMENT = 10_000
MEMBERSHIP_COLUMNS = len(memberships.columns)
_NOTHING = Tally()
TALLIED = ("accepted", "delivered", "superseded", "pending", "dead", "erased", "cancelled", "stale", "members")
MINUTE_COUNTS = ("accepted", "delivered", "superseded", "dead", "stale")
SAVE_MEMBERSHIPS = Prepared(lambda connection: upsert(connection, memberships), *memberships.columns.keys())
_ADD_TO_TOTALS = Prepared(
    update(totals)
    .where(totals.c.export_id == bindparam("b_export"))
    .values(
        {name: totals.c[name] + bindparam(f"b_{name}") for name in TALLIED}
        | {"last_event_at": func.coalesce(bindparam("b_seen", type_=Moment), totals.c.last_event_at)}
    ),
    *(f"b_{name}" for name in TALLIED),
    "b_seen",
    "b_export",
    is_ordered=True,
)
_ADD_TO_MINUTE = Prepared(lambda connection: upsert_adding(connection, minute_counts), *minute_counts.columns.keys())
_ADD_TO_LATENCIES = Prepared(
    lambda connection: upsert_adding(connection, minute_latencies), *minute_latencies.columns.keys()
)


def parts(keys: list[Key]) -> Iterator[list[Key]]:
    """Yield keys in parts that fit into one statement."""
    for start in range(0, len(keys), KEYS_PER_STATEMENT):
        yield keys[start : start + KEYS_PER_STATEMENT]


def membership_of(row: Row[Any], address: str) -> Membership:
    """Return a working copy of a row, which begins with all columns of a membership."""
    # Unpacked by position, because this runs for every call, and looking up names would take most of the time.
    (
        _,
        export_id,
        desired,
        confirmed,
        moved_at_ns,
        moved_message_at_ns,
        fields_at_ns,
        lytics_id,
        vars_,
        revision,
        confirmed_revision,
        confirmed_vars,
        confirmed_at,
        dead_code,
        dead_at,
        first_failed_at,
        accepted_at,
        erasure,
    ) = row[:MEMBERSHIP_COLUMNS]
    return Membership(
        export_id=export_id,
        address=address,
        desired=desired,
        confirmed=Confirmed(confirmed),
        moved=move_of(moved_at_ns, moved_message_at_ns, is_enter=desired),
        fields_at_ns=fields_at_ns,
        lytics_id=lytics_id,
        vars=vars_,
        revision=revision,
        confirmed_revision=confirmed_revision,
        confirmed_vars=confirmed_vars,
        confirmed_at=confirmed_at,
        dead_code=dead_code,
        dead_at=dead_at,
        first_failed_at=first_failed_at,
        accepted_at=accepted_at,
        erasure=erasure,
    )


def move_of(moved_at_ns: int | None, message_at_ns: int | None, *, is_enter: bool) -> Move | None:
    """Return the move from its columns, or None before the first move."""
    if moved_at_ns is None or message_at_ns is None:
        return None
    return Move(moved_at_ns, message_at_ns, is_enter)


def save_memberships(connection: Connection, changed: list[tuple[int, Membership]]) -> None:
    """Write back memberships, given with their member ids, in the order of their keys."""
    SAVE_MEMBERSHIPS.run(connection, rows_of(changed))


def rows_of(changed: list[tuple[int, Membership]]) -> list[tuple[object, ...]]:
    """Return the values of `SAVE_MEMBERSHIPS` for memberships, given with their member ids."""
    return [
        (
            member_id,
            m.export_id,
            m.desired,
            m.confirmed,
            m.moved.moved_at_ns if m.moved else None,
            m.moved.message_at_ns if m.moved else None,
            m.fields_at_ns,
            m.lytics_id,
            dict(m.vars),
            m.revision,
            m.confirmed_revision,
            m.confirmed_vars,
            m.confirmed_at,
            m.dead_code,
            m.dead_at,
            m.first_failed_at,
            m.accepted_at,
            m.erasure,
        )
        for member_id, m in sorted(changed, key=lambda item: (item[0], item[1].export_id))
    ]


def save_tallies(
    connection: Connection, tallies: Mapping[int, Tally], at: datetime, *, seen: AbstractSet[int] = frozenset()
) -> None:
    """Add to the totals and the minute counts of each export, in the transaction of the counted work.

    A transaction never both creates and ends dead letters. So the minute count of `dead` is the number of new ones.

    Args:
        seen: the exports that received an event.
    """
    # Rows are locked in the order of export ids, as in every other transaction.
    rows = [
        (
            *(getattr(tallies.get(export_id, _NOTHING), name) for name in TALLIED),
            at if export_id in seen else None,
            export_id,
        )
        for export_id in sorted(tallies.keys() | seen)
        if export_id in seen or tallies[export_id] != _NOTHING
    ]
    minute = at.replace(second=0, microsecond=0)
    _ADD_TO_TOTALS.run(connection, rows)
    _ADD_TO_MINUTE.run(connection, _minute_rows(tallies, minute))
    _ADD_TO_LATENCIES.run(connection, _latency_rows(tallies, minute))


def _minute_rows(tallies: Mapping[int, Tally], minute: datetime) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for export_id, tally in sorted(tallies.items()):
        counts = [max(getattr(tally, name), 0) for name in MINUTE_COUNTS]
        if any(counts):
            rows.append((export_id, minute, *counts))
    return rows


def _latency_rows(tallies: Mapping[int, Tally], minute: datetime) -> list[tuple[object, ...]]:
    return [
        (export_id, minute, bucket, count)
        for export_id, tally in sorted(tallies.items())
        for bucket, count in sorted(tally.confirmed_after.items())
    ]
