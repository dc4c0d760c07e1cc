"""The version number of the exports, by which replicas of version 0.1 detect changes."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from app.domain.export import Export, NewExport
from app.domain.fields import FieldMapping
from app.domain.list_check import ListChange
from app.domain.resolve import Resolver
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import versions
from tests.factories import ACCOUNT, Clock, event
from tests.store.conftest import Running

Order = Callable[[Exports, Export], Awaitable[object]]

ORDERS: dict[str, Order] = {
    "start": lambda exports, _: exports.start("B", audience_slug="b", account=ACCOUNT),
    "open": lambda exports, _: exports.open(NewExport("B", "b", ACCOUNT, "email", {}, "Lapsed", "Lytics Lapsed")),
    "pause": lambda exports, export: exports.pause(export.id),
    "stop": lambda exports, export: exports.stop(export.id),
    "fields": lambda exports, export: exports.set_fields(export.id, FieldMapping({"city": "town"})),
    "list": lambda exports, export: exports.mark_list_changed(export.id, ListChange.GONE, "It is gone."),
}


async def version(database: Database) -> int:
    (row,) = await database.rows(select(versions.c.version).where(versions.c.name == "exports"))
    number: int = row.version
    return number


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
async def test_every_order_increases_the_version(
    database: Database, exports: Exports, running: Running, order: Order
) -> None:
    export = await running("A")
    before = await version(database)
    await order(exports, export)

    assert await version(database) == before + 1


async def test_export_started_by_an_event_increases_the_version(database: Database, clock: Clock) -> None:
    """Only the first event does so, since the second one finds the export."""
    members = Members(database, clock, resolver=Resolver(auto_export=ACCOUNT))
    before = await version(database)
    await members.receive([event()])
    await members.receive([event()])

    assert await version(database) == before + 1


async def test_recorded_observations_do_not_increase_the_version(
    database: Database, exports: Exports, running: Running
) -> None:
    """They do not affect how events are resolved."""
    export = await running("A")
    before = await version(database)
    await exports.set_reason(export.id, "It waits.")
    await exports.record_list_check(export.id, list_others=3)
    await exports.mark_list_ready(ACCOUNT, str(export.list_name), "another-id")

    assert await version(database) == before
