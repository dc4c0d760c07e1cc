"""Exports: started once, named once, and one list each."""

import asyncio
from functools import partial

import pytest

from app.domain.errors import Conflict, NotFound
from app.domain.export import ExportState
from app.store.database.engine import Database
from app.store.exports import unexported as module
from app.store.exports.exports import Exports
from app.store.exports.unexported import count_unexported
from tests.factories import NOON


async def start(exports: Exports, audience: str = "a1", account: str = "default") -> int:
    return (await exports.start(audience, audience_slug="slug", account=account, fields={"x": "y"})).id


async def test_export_is_started_once(exports: Exports) -> None:
    """Repeated and simultaneous starts return the same export."""
    ids = set(await asyncio.gather(*(start(exports) for _ in range(5))))
    (export,) = await exports.find_by_audience("a1")

    assert ids == {export.id}
    assert (export.state, export.fields, export.list_name) == (ExportState.NEEDS_NAME, {"x": "y"}, None)
    assert await exports.get(export.id) == export
    assert await exports.find_by_audience("unknown") == ()


async def test_named_export_runs(exports: Exports) -> None:
    export_id = await start(exports)
    await exports.set_reason(export_id, "Lytics is away.")
    waiting = await exports.get(export_id)
    named = await exports.name(export_id, "Spring Buyers", "Lytics Spring Buyers")
    await exports.mark_list_ready("default", "Lytics Spring Buyers", "id-1")
    (ready,) = await exports.find_by_audience("a1")

    assert waiting.reason == "Lytics is away."
    assert (named.state, named.list_name, named.reason) == (ExportState.RUNNING, "Lytics Spring Buyers", None)
    assert ready.list_id == "id-1"
    assert ready.list_ready_at is not None
    with pytest.raises(Conflict, match="already keeps the list"):
        await exports.name(export_id, "Other", "Lytics Other")


async def test_export_with_a_taken_name_waits_for_another(exports: Exports) -> None:
    """Two audiences of one account never share a list. A list of the same name in another account is another list."""
    first, second, elsewhere = await start(exports), await start(exports, "a2"), await start(exports, "a2", "other")
    await exports.name(first, "Spring Buyers", "Lytics Spring Buyers")
    taken = await exports.name(second, "Spring Buyers", "Lytics Spring Buyers")
    free = await exports.name(elsewhere, "Spring Buyers", "Lytics Spring Buyers")
    renamed = await exports.name(second, "Spring Buyers 2", "Lytics Spring Buyers 2")

    assert (taken.state, taken.list_name) == (ExportState.NAME_TAKEN, None)
    assert f"PATCH /exports/{second}" in (taken.reason or "")
    assert free.state is ExportState.RUNNING
    assert renamed.list_name == "Lytics Spring Buyers 2"


async def test_unknown_export_is_not_found(exports: Exports) -> None:
    with pytest.raises(NotFound, match="GET /exports"):
        await exports.get(7)
    assert await exports.reports(7) == []


@pytest.mark.parametrize("is_batch", [True, False])
async def test_unexported_audiences_are_counted_and_bounded(
    database: Database, exports: Exports, monkeypatch: pytest.MonkeyPatch, is_batch: bool
) -> None:
    """The holder of a webhook token can name any audience, so audiences beyond the limit share one row."""
    monkeypatch.setattr(module, "MOST_UNEXPORTED", 2)
    audiences = ["a", "b", "a", "c", "d"]
    for part in [audiences] if is_batch else [[audience_id] for audience_id in audiences]:
        events = [(audience, "slug") for audience in part]
        await database.write(partial(count_unexported, events=events, now=NOON))
    counted = {row.audience_id: row.events for row in await exports.unexported()}

    assert counted == {"a": 2, "b": 1, "": 2}
