"""Webhooks in one transaction: exports are read, missing exports are started, and other events are counted."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from app.domain.audience import Audience
from app.domain.change import Kind
from app.domain.errors import StoreUnavailable
from app.domain.export import Export, ExportState
from app.domain.fields import FieldMapping
from app.domain.ledger import Verdict
from app.domain.rejection import Reason, Rejection
from app.domain.resolve import Received, Resolver
from app.lytics.address import usable_address
from app.store.database.engine import Database
from app.store.exports.exports import Exports
from app.store.members.members import Members
from app.store.schema import memberships
from tests.factories import ACCOUNT, ADA, AUDIENCE, GRACE, GRACE_ID, MINUTE, Clock, event, ns, room
from tests.places import opened
from tests.store.conftest import Running
from tests.store.counting import assert_all_adds_up, held
from tests.store.recording import recording

NO_ADDRESS = Rejection(Reason.NO_USABLE_ADDRESS, "data.email holds no usable e-mail address.")
GRACE_PROFILE = {"email": GRACE}


@pytest.fixture
def members(database: Database, clock: Clock) -> Members:
    return Members(database, clock, resolver=Resolver(usable_address))


@pytest.fixture
def starting(database: Database, clock: Clock) -> Members:
    """Return members that start exports for unknown audiences."""
    return Members(database, clock, resolver=Resolver(usable_address, auto_export=ACCOUNT))


@pytest.fixture
async def replica(database: Database, database_url: str, clock: Clock) -> AsyncIterator[Members]:
    """Like `starting`, but with its own connections if the database can be shared."""
    if not database.is_shared:
        yield Members(database, clock, resolver=Resolver(usable_address, auto_export=ACCOUNT))
        return
    async with opened(database_url) as other:
        yield Members(other, clock, resolver=Resolver(usable_address, auto_export=ACCOUNT))


def receipt(received: Received) -> tuple[int, int, int]:
    return received.accepted, received.ignored, len(received.rejected)


async def unexported(exports: Exports) -> list[tuple[str, int]]:
    return [(audience.audience_id, audience.events) for audience in await exports.unexported()]


async def exports_of_all(exports: Exports) -> list[tuple[str, ExportState]]:
    return [(export.audience_id, export.state) for export in await exports.all()]


async def test_receipt_counts_every_event_once(members: Members, exports: Exports, running: Running) -> None:
    """The events are accepted, stale, without address, and unexported."""
    await running(AUDIENCE)
    received = await members.receive([event(), event(), event(profile={}), event(audience_id="other")])

    assert receipt(received) == (1, 2, 1)
    assert received.rejected == (NO_ADDRESS,)
    assert received.changes.verdicts == (Verdict.ACCEPTED, Verdict.STALE)
    assert received.changes.due_accounts == {ACCOUNT}
    assert not received.has_new_exports
    assert await unexported(exports) == [("other", 1)]


async def test_webhooks_that_share_a_transaction_get_their_own_receipts(
    members: Members, exports: Exports, running: Running, database: Database
) -> None:
    await running(AUDIENCE)
    received = await asyncio.gather(
        members.receive([event(), event(audience_id="other")]),
        members.receive([]),
        members.receive([event(lytics_id=GRACE_ID, profile=GRACE_PROFILE), event(profile={"email": "?"})]),
        members.receive([event(Kind.EXIT, moved_at_ns=ns(-1))]),
    )
    await assert_all_adds_up(database, exports)

    assert [receipt(result) for result in received] == [(1, 1, 0), (0, 0, 0), (1, 0, 1), (0, 1, 0)]


async def test_order_of_another_replica_applies_to_the_next_event(
    members: Members, database: Database, clock: Clock, running: Running
) -> None:
    """Exports are not cached. The replica chooses other fields, then stops the export."""
    export = await running(AUDIENCE)
    await members.receive([event()])
    elsewhere = Exports(database, clock)
    await elsewhere.set_fields(export.id, FieldMapping({"city": "town"}))
    changed = await members.receive([event(moved_at_ns=ns(5), message_at_ns=ns(6))])
    stored = await held(members, ADA)
    await elsewhere.stop(export.id)
    stopped = await members.receive([event(Kind.EXIT, moved_at_ns=ns(7))])

    assert receipt(changed) == (1, 0, 0)
    assert stored.vars == {"town": "Turin"}
    assert receipt(stopped) == (0, 1, 0)
    assert (await held(members, ADA)).desired


async def test_unknown_audience_is_started_once(
    starting: Members, replica: Members, exports: Exports, database: Database
) -> None:
    """Many first events arrive at the same moment, on one replica or two."""
    received = await asyncio.gather(
        *(
            replica_members.receive([event(lytics_id=str(n), profile={"email": f"p{n}@example.com"})] * 2)
            for n, replica_members in enumerate([starting, replica] * 5)
        )
    )
    await assert_all_adds_up(database, exports)

    assert await exports_of_all(exports) == [(AUDIENCE, ExportState.NEEDS_NAME)]
    assert {receipt(result) for result in received} == {(1, 1, 0)}
    assert any(result.has_new_exports for result in received)
    assert len(await database.rows(select(memberships.c.member_id))) == 10


async def test_two_replicas_may_start_several_audiences_at_once(
    starting: Members, replica: Members, exports: Exports
) -> None:
    """The replicas name the audiences in opposite orders, which could lead to a deadlock."""
    audiences = [f"a{n}" for n in range(20)]
    await asyncio.gather(
        *(starting.receive([event(audience_id=audience_id) for audience_id in audiences]) for _ in range(5)),
        *(replica.receive([event(audience_id=audience_id) for audience_id in reversed(audiences)]) for _ in range(5)),
    )

    assert sorted(export.audience_id for export in await exports.all()) == sorted(audiences)


async def test_started_export_stores_its_first_event_until_it_has_a_name(starting: Members, exports: Exports) -> None:
    """The event is not due until then."""
    received = await starting.receive([event()])
    (export,) = await exports.find_by_audience(AUDIENCE)
    before = await starting.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    await exports.name(export.id, "Spring Buyers", "Lytics Spring Buyers")
    await starting.next_batch(export.id)
    (claim,) = await starting.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)

    assert (received.has_new_exports, received.changes.due_accounts) == (True, frozenset())
    assert (export.audience_slug, export.account, export.email_field) == ("spring_buyers", ACCOUNT, "email")
    assert (before, claim.address) == ([], ADA)


async def test_audience_without_a_usable_address_is_started_too(starting: Members, exports: Exports) -> None:
    received = await starting.receive([event(profile={})])

    assert (receipt(received), received.has_new_exports) == ((0, 0, 1), True)
    assert len(await exports.all()) == 1


async def test_stopped_export_is_not_started_again(starting: Members, exports: Exports, running: Running) -> None:
    export = await running(AUDIENCE)
    await exports.stop(export.id)
    received = await starting.receive([event()])

    assert (receipt(received), received.has_new_exports) == ((0, 1, 0), False)
    assert await exports_of_all(exports) == [(AUDIENCE, ExportState.STOPPED)]
    assert await unexported(exports) == []


async def test_start_that_fails_is_tried_again_with_the_next_event(
    starting: Members, exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the webhook is stored, and the failure has no later effect."""
    with monkeypatch.context() as patch:

        async def fail(_: object) -> None:
            raise StoreUnavailable("The disk is full.")

        patch.setattr(database, "write", fail)
        with pytest.raises(StoreUnavailable):
            await starting.receive([event()])
    nothing = await exports.all()

    assert nothing == []
    assert receipt(await starting.receive([event()])) == (1, 0, 0)


async def test_webhook_with_a_closed_connection_does_not_cancel_others(starting: Members) -> None:
    first, second = (asyncio.create_task(starting.receive([event()])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    received = await second

    assert sum(receipt(received)) == 1
    assert first.cancelled()


class TestMergedExport:
    """An export whose audience another export has adopted."""

    async def merged(self, exports: Exports, members: Members, running: Running) -> tuple[Export, Export]:
        export = await running("A")
        other = await exports.start(AUDIENCE, audience_slug="", account=ACCOUNT)
        await members.receive([event()])
        adopted = await exports.adopt(export.id, Audience(AUDIENCE, "", "A"), chosen=FieldMapping({}))
        return adopted, await exports.get(other.id)

    async def test_events_of_its_audience_go_to_the_other(
        self, exports: Exports, members: Members, running: Running
    ) -> None:
        adopted, _ = await self.merged(exports, members, running)
        received = await members.receive([event(lytics_id=GRACE_ID, profile=GRACE_PROFILE)])
        (report,) = await members.find_by_address(GRACE)

        assert receipt(received) == (1, 0, 0)
        assert report.export_id == adopted.id

    async def test_event_that_names_the_merged_export_goes_to_the_other(
        self, exports: Exports, members: Members, running: Running
    ) -> None:
        adopted, other = await self.merged(exports, members, running)
        received = await members.receive(
            [event(audience_id=other.audience_id, lytics_id=GRACE_ID, profile=GRACE_PROFILE)]
        )
        (report,) = await members.find_by_address(GRACE)

        assert receipt(received) == (1, 0, 0)
        assert report.export_id == adopted.id


async def test_webhook_is_not_split_by_an_order(
    members: Members, exports: Exports, running: Running, database: Database
) -> None:
    """In either order, all of the webhook is stored or nothing."""
    export = await running(AUDIENCE)
    events = [event(lytics_id=str(n), profile={"email": f"p{n}@example.com"}) for n in range(50)]
    received, _ = await asyncio.gather(members.receive(events), exports.stop(export.id))
    await assert_all_adds_up(database, exports)
    kept = await database.rows(select(memberships.c.member_id))

    assert len(kept) == received.accepted
    assert received.accepted in {0, 50}


async def test_exports_of_a_batch_are_read_once(members: Members, running: Running, database: Database) -> None:
    """One statement reads the exports of all audiences in the webhooks."""
    audiences = [AUDIENCE, "B", "C", "unknown"]
    for audience in audiences[:3]:
        await running(audience)
    with recording(database) as recorded:
        await asyncio.gather(*(members.receive([event(audience_id=audience_id)] * 2) for audience_id in audiences))

    assert len([statement for statement in recorded.statements if "FROM exports" in statement]) == 1
