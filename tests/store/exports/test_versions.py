"""Versions of the exports: a replica knows whether what it remembers of them is what is stored."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from app.domain.export import Export, NewExport
from app.domain.fields import FieldMapping
from app.domain.ledger import Verdict
from app.domain.list_check import ListChange
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import memberships
from tests.factories import ACCOUNT, Clock, enter
from tests.store.conftest import Running

Order = Callable[[Exports, Export], Awaitable[object]]


@pytest.fixture
async def replica(database: Database, clock: Clock) -> Exports:
    """Another one than that of the fixture `exports`."""
    return Exports(database, clock)


ORDERS: dict[str, Order] = {
    "start": lambda exports, _: exports.start("B", audience_slug="b", account=ACCOUNT),
    "open": lambda exports, _: exports.open(NewExport("B", "b", ACCOUNT, "email", {}, "Lapsed", "Lytics Lapsed")),
    "pause": lambda exports, export: exports.pause(export.id),
    "stop": lambda exports, export: exports.stop(export.id),
    "fields": lambda exports, export: exports.set_fields(export.id, FieldMapping({"city": "town"})),
    "list": lambda exports, export: exports.list_changed(export.id, ListChange.GONE, "It is gone."),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
async def test_every_order_makes_a_new_version(
    replica: Exports, exports: Exports, running: Running, order: Order
) -> None:
    """Who gave it remembers the new one at once; the other replica finds out that it does not."""
    export = await running("A")
    await replica.refresh()
    before = replica.version
    was_current = await replica.is_current(before)
    await order(exports, export)

    assert was_current
    assert exports.version == before + 1
    assert await exports.is_current(exports.version)
    assert not await replica.is_current(before)


async def test_who_reads_again_remembers_what_was_ordered(replica: Exports, exports: Exports, running: Running) -> None:
    export = await running("A")
    await replica.refresh()
    stopped = await exports.stop(export.id)
    remembered = replica.of_audience("A")
    await replica.refresh()

    assert remembered == (export,)
    assert replica.of_audience("A") == (stopped,)
    assert replica.version == exports.version


async def test_what_is_only_noted_is_no_new_version(replica: Exports, exports: Exports, running: Running) -> None:
    """Changes are made of what was ordered, whatever is said of it."""
    export = await running("A")
    await replica.refresh()
    await exports.explain(export.id, "It waits.")
    await exports.looked(export.id, list_others=3)
    await exports.list_is_ready(ACCOUNT, str(export.list_name), "another-id")

    assert await replica.is_current(replica.version)


async def test_changes_for_exports_of_before_are_not_kept(
    replica: Exports, exports: Exports, members: Members, running: Running, database: Database
) -> None:
    """Also where they share a transaction with others that are."""
    await running("A")
    await replica.refresh()
    await exports.pause(1)
    one, other = enter("ada@example.com"), enter("grace@example.com", lytics_id="2")
    outdated, kept, sure = await asyncio.gather(
        members.keep_current([one], replica.version),
        members.keep_current([other], exports.version),
        members.keep([other]),
    )
    addresses = await database.rows(select(memberships.c.lytics_id))

    assert outdated is None
    assert kept is not None
    assert kept.verdicts == (Verdict.ACCEPTED,)
    assert sure.verdicts == (Verdict.STALE,)
    assert [row.lytics_id for row in addresses] == ["2"]


async def test_what_is_exported_by_now_is_not_counted_as_ignored(replica: Exports, exports: Exports) -> None:
    """Only the event that was looked at before; one beside it, looked at since, is."""
    await replica.refresh()
    before = replica.version
    await exports.start("A", audience_slug="a", account=ACCOUNT)
    await replica.refresh()
    known, unknown = await asyncio.gather(
        replica.count_unexported("A", "a", before), replica.count_unexported("B", "b", replica.version)
    )
    unexported = await replica.unexported()

    assert (known, unknown) == (False, True)
    assert [(one.audience_id, one.events) for one in unexported] == [("B", 1)]
