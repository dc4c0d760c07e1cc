"""Fixtures: the parts of the store on a new database, and a running export."""

from collections.abc import Awaitable, Callable

import pytest

from app.domain.export import Export
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.members import Members
from tests.factories import ACCOUNT, Clock

Running = Callable[[str], Awaitable[Export]]


@pytest.fixture
def exports(database: Database, clock: Clock) -> Exports:
    return Exports(database, clock)


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock)


@pytest.fixture
def journal(database: Database) -> Journal:
    return Journal(database)


@pytest.fixture
def running(exports: Exports, members: Members) -> Running:
    """Return a function that starts an export with an existing list."""

    async def start(audience: str) -> Export:
        export = await exports.start(audience, audience_slug=audience.lower(), account=ACCOUNT)
        named = await exports.name(export.id, audience, f"Lytics {audience}")
        assert named.list_name is not None
        await exports.mark_list_ready(ACCOUNT, named.list_name, "list-id")
        await members.next_batch(export.id)
        return await exports.get(export.id)

    return start
