"""Orders to an export: open, pause, resume, stop, revive, adopt."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.audience import Audience
from app.domain.errors import Conflict, NotFound
from app.domain.export import Export, ExportState, NewExport
from app.domain.fields import FieldMapping
from app.domain.list_check import ListChange
from app.domain.membership import Confirmed
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.members.members import Members
from tests.factories import (
    ACCOUNT,
    ADA,
    ADA_ID,
    GRACE,
    GRACE_ID,
    LOVELACE,
    MINUTE,
    Clock,
    enter,
    exit_,
    room,
    settlement,
)
from tests.store.conftest import Running


async def deliver_all(members: Members) -> list[str]:
    """Settle all due members as confirmed; return their addresses."""
    claims = await members.claim(ACCOUNT, capacity=room(100), lease_for=MINUTE)
    for claim in claims:
        await members.settle(settlement(claim))
    return sorted(claim.address for claim in claims)


async def counts_of(exports: Exports, export_id: int) -> dict[str, int]:
    (report,) = await exports.reports(export_id)
    assert report.counts["accepted"] == sum(
        report.counts[name] for name in ("delivered", "superseded", "pending", "dead", "erased", "cancelled")
    )
    return {name: count for name, count in report.counts.items() if count}


async def carry_out(exports: Exports, members: Members, *, size: int = 2) -> None:
    for export_id in await exports.unfinished():
        while await members.next_batch(export_id, size=size):
            pass


def new(audience: str = "A", **different: Any) -> NewExport:
    return replace(NewExport(audience, "", ACCOUNT, "email", {}, audience, f"Lytics {audience}"), **different)


async def test_paused_export_keeps_its_changes_and_delivers_them_after_resume(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    await exports.pause(export.id)
    paused = await exports.pause(export.id)
    await members.apply([enter()])
    while_paused = await deliver_all(members)
    await exports.resume(export.id)
    resumed = await exports.resume(export.id)
    await carry_out(exports, members)

    assert (paused.state, resumed.state) == (ExportState.PAUSED, ExportState.RUNNING)
    assert while_paused == []
    assert await deliver_all(members) == [ADA]


async def test_member_due_before_the_pause_is_not_delivered_during_it(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    await members.apply([enter()])
    await exports.pause(export.id)
    while_paused = await deliver_all(members)
    await exports.resume(export.id)
    await carry_out(exports, members)

    assert while_paused == []
    assert await deliver_all(members) == [ADA]


async def test_opened_export_has_its_list_at_once_and_is_not_changed_by_a_second_call(exports: Exports) -> None:
    opened, is_new = await exports.open(new(is_paused=True, fields={"x": "y"}))
    again, is_new_again = await exports.open(new(fields={"z": "z"}))
    with pytest.raises(Conflict, match="keeps the list 'Lytics A'"):
        await exports.open(new("B", list_name="Lytics A"))
    runs, _ = await exports.open(new("C"))

    assert (opened.state, opened.list_name, opened.fields) == (ExportState.PAUSED, "Lytics A", {"x": "y"})
    assert (is_new, is_new_again) == (True, False)
    assert again == opened
    assert runs.state is ExportState.RUNNING
    assert [export.id for export in await exports.find_by_audience("A")] == [opened.id]


async def test_nameless_and_stopped_exports_can_not_be_paused_or_resumed(exports: Exports) -> None:
    nameless = await exports.start("A", audience_slug="", account=ACCOUNT)
    stopped, _ = await exports.open(new("B"))
    await exports.stop(stopped.id)

    for order in (exports.pause, exports.resume):
        with pytest.raises(Conflict, match="has no list yet"):
            await order(nameless.id)
        with pytest.raises(Conflict, match="Only POST /exports"):
            await order(stopped.id)
    with pytest.raises(NotFound):
        await exports.stop(99)


async def test_stopped_export_ignores_events_and_cancels_pending_changes(
    exports: Exports, members: Members, journal: Journal, running: Running
) -> None:
    export = await running("A")
    await members.apply([enter(ADA), enter(GRACE, lytics_id=GRACE_ID)])
    await deliver_all(members)
    people = [enter(f"p{n}@example.com", lytics_id=f"p{n}") for n in range(5)]
    await members.apply([*people, exit_(GRACE, lytics_id=GRACE_ID, at=5)])
    stopped = await exports.stop(export.id)
    kept = await members.apply([enter(LOVELACE, lytics_id="7", at=9)])
    await carry_out(exports, members)
    counts = await counts_of(exports, export.id)
    confirmed = await deliver_all(members)
    (grace,) = await members.find_by_address(GRACE)
    (p0,) = await members.find_by_address("p0@example.com")
    timeline = [line.what for _, line in await journal.timeline("p0@example.com")]

    assert stopped.state is ExportState.STOPPED
    assert kept.verdicts == ("ignored",)
    assert counts == {"accepted": 8, "delivered": 2, "cancelled": 6, "members": 2}
    assert confirmed == []
    assert (grace.membership.desired, p0.membership.desired) == (True, False)
    assert timeline == ["received", "cancelled"]
    assert await exports.unfinished() == []


async def test_call_under_way_during_a_stop_counts_as_delivered(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    await members.apply([enter()])
    (claim,) = await members.claim(ACCOUNT, capacity=room(1), lease_for=MINUTE)
    await members.apply([exit_(at=1)])
    await exports.stop(export.id)
    await carry_out(exports, members)
    waits = await exports.unfinished()
    await members.settle(settlement(claim))
    await carry_out(exports, members)
    (ada,) = await members.find_by_address(ADA)

    assert waits == [export.id]
    assert (ada.membership.desired, ada.membership.confirmed) == (True, Confirmed.IN)
    assert await counts_of(exports, export.id) == {"accepted": 2, "delivered": 1, "cancelled": 1, "members": 1}
    assert await exports.unfinished() == []


async def test_revived_export_accepts_changes_older_than_the_cancelled_ones(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    await members.apply([enter(at=100)])
    await exports.stop(export.id)
    with pytest.raises(Conflict, match="still being stopped"):
        await exports.revive(export.id, chosen=FieldMapping({}), is_paused=False)
    await carry_out(exports, members)
    revived = await exports.revive(export.id, chosen=FieldMapping({"x": "y"}), is_paused=False)
    kept = await members.apply([enter(at=50)])

    assert (revived.state, revived.fields, revived.reason) == (ExportState.RUNNING, {"x": "y"}, None)
    assert kept.verdicts == ("accepted",)
    assert await deliver_all(members) == [ADA]


async def test_after_a_replaced_list_confirmed_members_become_unknown_and_are_read_first(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    people = [enter(f"p{n}@example.com", lytics_id=f"p{n}") for n in range(5)]
    await members.apply(people)
    await deliver_all(members)
    changed = await exports.mark_list_changed(export.id, ListChange.REPLACED, "Another list.")
    await exports.mark_list_changed(export.id, ListChange.GONE, "Said again, it stays as it was.")
    resumed = await exports.resume(export.id)
    await carry_out(exports, members)
    found = [
        report.membership.confirmed for n in range(5) for report in await members.find_by_address(f"p{n}@example.com")
    ]
    quiet = await deliver_all(members)
    await members.apply([enter("p0@example.com", lytics_id="p0", at=50)])
    (claim,) = await members.claim(ACCOUNT, capacity=room(9), lease_for=MINUTE)

    assert (changed.state, changed.list_change, changed.reason) == (
        ExportState.LIST_CHANGED,
        ListChange.REPLACED,
        "Another list.",
    )
    assert (resumed.state, resumed.list_ready_at, resumed.reason) == (ExportState.RUNNING, None, None)
    assert found == [Confirmed.UNKNOWN] * 5
    assert quiet == []
    assert claim.call.is_read


async def test_after_a_count_change_confirmed_members_stay_confirmed(
    exports: Exports, members: Members, running: Running
) -> None:
    export = await running("A")
    await members.apply([enter()])
    await deliver_all(members)
    await exports.record_list_check(export.id, list_others=3)
    await exports.mark_list_changed(export.id, ListChange.COUNT, "Many people.")
    resumed = await exports.resume(export.id)
    await carry_out(exports, members)
    (ada,) = await members.find_by_address(ADA)

    assert (resumed.list_id, resumed.list_others) == (export.list_id, None)
    assert ada.membership.confirmed is Confirmed.IN


class TestAdoption:
    async def adopted(self, exports: Exports, running: Running) -> Export:
        export = await running("A")
        return await exports.adopt(export.id, Audience("A2", "a", "A"), chosen=FieldMapping({"x": "y"}))

    async def test_export_keeps_its_list_and_members(
        self, exports: Exports, members: Members, running: Running
    ) -> None:
        adopted = await self.adopted(exports, running)

        assert (adopted.audience_id, adopted.list_name, adopted.fields) == ("A2", "Lytics A", {"x": "y"})
        assert [export.id for export in await exports.find_by_audience("A2")] == [adopted.id]
        assert await exports.find_by_audience("A") == ()

    async def test_export_that_its_events_opened_is_merged_without_a_second_join(
        self, exports: Exports, members: Members, running: Running
    ) -> None:
        old = await running("A")
        await members.apply([enter(ADA), enter(GRACE, lytics_id=GRACE_ID)])
        await deliver_all(members)
        started = await exports.start("A2", audience_slug="a", account=ACCOUNT)
        await exports.name(started.id, "A", "Lytics A")
        await members.apply(
            [
                enter(ADA, at=10, export_id=started.id),
                enter(LOVELACE, lytics_id="3", at=11, export_id=started.id),
                exit_(GRACE, lytics_id=GRACE_ID, at=12, export_id=started.id),
            ]
        )
        await exports.adopt(old.id, Audience("A2", "a", "A"), chosen=FieldMapping({}))
        late = await members.apply([enter("late@example.com", lytics_id="4", at=13, export_id=started.id)])
        await carry_out(exports, members)
        merged = await exports.get(started.id)
        claims = await members.claim(ACCOUNT, capacity=room(9), lease_for=MINUTE)
        calls = {claim.address: (claim.call.join, claim.call.leave) for claim in claims}

        assert (merged.state, merged.audience_id) == (ExportState.STOPPED, f"merged-{started.id}")
        assert late.verdicts == ("accepted",)
        assert calls == {
            GRACE: ((), ("Lytics A",)),
            LOVELACE: (("Lytics A",), ()),
            "late@example.com": (("Lytics A",), ()),
        }
        assert await counts_of(exports, started.id) == {"accepted": 3, "cancelled": 3}

    async def test_export_with_a_list_of_its_own_is_not_merged(
        self, exports: Exports, members: Members, running: Running
    ) -> None:
        old = await running("A")
        other, _ = await exports.open(new("A2", list_name="Lytics Other"))
        with pytest.raises(Conflict, match=f"Export {other.id} keeps the list 'Lytics Other'"):
            await exports.adopt(old.id, Audience("A2", "a", "A"), chosen=FieldMapping({}))

        assert (await exports.get(old.id)).audience_id == "A"


async def test_report_has_freshness_of_the_last_hour_and_the_oldest_pending_change(
    exports: Exports, members: Members, running: Running, clock: Clock
) -> None:
    export = await running("A")
    (before,) = await exports.reports(export.id)
    for seconds in (1, 1, 1, 60):
        await members.apply([enter(at=clock.now.timestamp(), lytics_id=ADA_ID)])
        clock.advance(timedelta(seconds=seconds))
        await deliver_all(members)
        await members.apply([exit_(at=clock.now.timestamp(), lytics_id=ADA_ID)])
        clock.advance(timedelta(seconds=seconds))
        await deliver_all(members)
    began = clock.now
    await members.apply([enter(at=clock.now.timestamp(), lytics_id=ADA_ID)])
    clock.advance(MINUTE)
    (report,) = await exports.reports(export.id)
    clock.advance(timedelta(hours=2))
    (later,) = await exports.reports(export.id)

    assert before.freshness is None
    assert report.freshness is not None
    assert timedelta(seconds=1) <= report.freshness.p50 <= timedelta(seconds=1.25)
    assert timedelta(seconds=60) <= report.freshness.p95 <= timedelta(seconds=75)
    assert (before.oldest_pending_at, report.oldest_pending_at) == (None, began)
    assert later.freshness is None
