"""Receiving: which changes a webhook's events become, and what is counted."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.domain.change import AudienceEvent, Kind, MembershipChange
from app.domain.errors import StoreUnavailable
from app.domain.export import Export
from app.domain.ledger import Kept, Verdict
from app.domain.rejection import Reason, Rejection
from app.lytics.address import usable_address
from app.receive import Receipt, Receiver
from tests.factories import ACCOUNT, ADA, ADA_ID, export, ns

AUDIENCE = "0a1b2c3d"
NO_ADDRESS = Rejection(Reason.NO_USABLE_ADDRESS, "data.email holds no usable e-mail address.")


class Store:
    """Exports and members, in memory; and what another replica has made of the exports."""

    def __init__(self, *exports: Export) -> None:
        self.known = list(exports)
        self.version = 1
        # Stored by another replica, one each time that somebody looks whether what is in memory still is what is
        # stored; None for nothing.
        self.changed: list[list[Export] | None] = []
        self.stored = (1, self.known)
        self.refreshed = 0
        self.started: list[tuple[str, str, str]] = []
        self.has_begun = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.error: Exception | None = None
        self.unexported: list[tuple[str, str]] = []
        self.kept: list[MembershipChange] = []
        self.sizes: list[int] = []
        self.verdict = Verdict.ACCEPTED
        self.woken: list[str] = []
        self.new_exports = 0

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        return tuple(one for one in self.known if one.audience_id == audience_id)

    async def start(self, audience_id: str, *, audience_slug: str, account: str) -> Export:
        self.started.append((audience_id, audience_slug, account))
        self.has_begun.set()
        await self.may_start.wait()
        if self.error is not None:
            raise self.error
        started = export(audience_id=audience_id)
        self.stored = (self.stored[0] + 1, [*self.stored[1], started])
        await self.refresh()
        return started

    async def refresh(self) -> None:
        self.refreshed += 1
        self.version, self.known = self.stored

    async def is_current(self, version: int) -> bool:
        change = self.changed.pop(0) if self.changed else None
        if change is not None:
            self.stored = (self.stored[0] + 1, change)
        return version == self.stored[0]

    async def count_unexported(self, audience_id: str, audience_slug: str, version: int) -> bool:
        is_current = await self.is_current(version)
        if is_current:
            self.unexported.append((audience_id, audience_slug))
        return is_current

    async def keep_current(self, changes: Sequence[MembershipChange], version: int) -> Kept | None:
        if not await self.is_current(version):
            return None
        self.kept += changes
        self.sizes.append(len(changes))
        return Kept(tuple(self.verdict for _ in changes), frozenset({ACCOUNT}))

    def named(self) -> None:
        self.new_exports += 1


def receiver(store: Store, *, auto_export: str | None = ACCOUNT) -> Receiver:
    return Receiver(
        store,
        store,
        usable_address=usable_address,
        auto_export=auto_export,
        wake=store.woken.append,
        on_new_export=store.named,
    )


def event(kind: Kind = Kind.ENTER, **different: Any) -> AudienceEvent:
    values: dict[str, Any] = {
        "kind": kind,
        "audience_id": AUDIENCE,
        "audience_slug": "spring_buyers",
        "lytics_id": ADA_ID,
        "moved_at_ns": None if kind is Kind.CHANGE else ns(0),
        "message_at_ns": ns(1),
        "profile": {"email": " Ada@Example.com ", "city": "Turin", "age": None},
    }
    return AudienceEvent(**values | different)


async def test_an_event_becomes_a_change_of_each_export() -> None:
    """The address is cleaned, the chosen fields go along under their new names, the account is woken."""
    store = Store(export(fields={"city": "town", "age": "age"}), export(id=2, account="shop"))
    receipt = await receiver(store).receive([event()])

    assert receipt == Receipt(1, 0, ())
    assert [(one.export_id, one.address, one.vars) for one in store.kept] == [(1, ADA, {"town": "Turin"}), (2, ADA, {})]
    assert store.woken == [ACCOUNT]


async def test_an_exit_carries_no_vars() -> None:
    """Who leaves is not written to."""
    store = Store(export(fields={"city": "town"}))
    await receiver(store).receive([event(Kind.EXIT)])

    assert [one.vars for one in store.kept] == [{}]


@pytest.mark.parametrize("verdict", [Verdict.STALE, Verdict.IGNORED])
async def test_what_was_not_accepted_is_ignored(verdict: Verdict) -> None:
    """Duplicates, older moves, and changes of nobody."""
    store = Store(export())
    store.verdict = verdict

    assert await receiver(store).receive([event(), event()]) == Receipt(0, 2, ())


@pytest.mark.parametrize(
    ("kind", "lytics_id", "is_kept"),
    [
        (Kind.ENTER, ADA_ID, False),
        (Kind.EXIT, ADA_ID, True),
        (Kind.CHANGE, ADA_ID, True),
        (Kind.EXIT, None, False),
        (Kind.CHANGE, None, False),
    ],
)
async def test_no_usable_address(kind: Kind, lytics_id: str | None, is_kept: bool) -> None:
    """Only an enter can't do without an address, as long as the user has an id."""
    store = Store(export())
    receipt = await receiver(store).receive([event(kind, lytics_id=lytics_id, profile={"email": "nobody"})])

    assert [one.address for one in store.kept] == ([None] if is_kept else [])
    assert receipt == (Receipt(1, 0, ()) if is_kept else Receipt(0, 0, (NO_ADDRESS,)))


async def test_an_address_for_one_export_is_enough() -> None:
    """Each export looks at its own field."""
    store = Store(export(email_field="work_email"), export(id=2))
    receipt = await receiver(store).receive([event()])

    assert (receipt, [one.export_id for one in store.kept]) == (Receipt(1, 0, ()), [2])


async def test_an_unknown_audience_is_started_once() -> None:
    """However many first events come at the same moment, in one message or in several."""
    store = Store()
    store.may_start.clear()
    entrance = receiver(store)
    waiting = [asyncio.create_task(entrance.receive([event(), event()])) for _ in range(5)]
    await store.has_begun.wait()
    store.may_start.set()
    receipts = await asyncio.gather(*waiting)

    assert store.started == [(AUDIENCE, "spring_buyers", ACCOUNT)]
    assert store.new_exports == 1
    assert receipts == [Receipt(2, 0, ())] * 5


async def test_one_who_hangs_up_does_not_take_the_others_along() -> None:
    """The start goes on although the request that began it was cancelled."""
    store = Store()
    store.may_start.clear()
    entrance = receiver(store)
    first, second = (asyncio.create_task(entrance.receive([event()])) for _ in range(2))
    await store.has_begun.wait()
    first.cancel()
    await asyncio.wait({first})
    store.may_start.set()

    assert await second == Receipt(1, 0, ())
    assert first.cancelled()
    assert len(store.started) == 1


async def test_a_start_that_failed_is_tried_again_by_the_next() -> None:
    """A failure is not remembered."""
    store = Store()
    store.error = StoreUnavailable("The disk is full.")
    entrance = receiver(store)
    with pytest.raises(StoreUnavailable):
        await entrance.receive([event()])
    store.error = None

    assert await entrance.receive([event()]) == Receipt(1, 0, ())
    assert len(store.started) == 2


async def test_without_auto_export_an_unknown_audience_is_counted() -> None:
    """Ignored, whether or not it has an address."""
    store = Store()
    receipt = await receiver(store, auto_export=None).receive([event(), event(profile={})])

    assert receipt == Receipt(0, 2, ())
    assert store.unexported == [(AUDIENCE, "spring_buyers")] * 2
    assert store.kept == []


async def test_a_rejection_says_where_the_address_is_missing() -> None:
    """In which message of an array, and in the field of the export."""
    receipt = await receiver(Store(export(email_field="work_email"))).receive([event(item=3)])

    assert receipt.rejected == (
        Rejection(Reason.NO_USABLE_ADDRESS, "[3].data.work_email holds no usable e-mail address.", 3),
    )


async def test_more_than_lytics_sends_at_once_is_kept_in_portions() -> None:
    """A thousand at a time, so that others get their turn; the receipt is of all of them."""
    store = Store(export())
    receipt = await receiver(store).receive([*[event()] * 2001, *[event(profile={})] * 2])

    assert store.sizes == [1000, 1000, 1]
    assert receipt == Receipt(2001, 0, (NO_ADDRESS, NO_ADDRESS))


async def test_no_events_are_nothing_to_keep() -> None:
    store = Store(export())

    assert await receiver(store).receive([]) == Receipt(0, 0, ())
    assert store.sizes == []


async def test_what_no_database_can_hold_is_taken_out_of_a_field() -> None:
    """The person is kept all the same."""
    store = Store(export(fields={"city": "town", "score": "score"}))
    receipt = await receiver(store).receive(
        [event(profile={"email": ADA, "city": "Tu\x00rin\ud83d", "score": float("inf")})]
    )

    assert receipt == Receipt(1, 0, ())
    assert [one.vars for one in store.kept] == [{"town": "Turin"}]


class TestAnotherReplica:
    """It has changed an export since this one has read them."""

    async def test_changes_are_made_again_and_kept_once(self) -> None:
        """With the address field and the fields that were ordered, although there were two orders meanwhile."""
        store = Store(export(fields={"city": "town"}))
        store.changed = [[export(email_field="work_email")], [export(fields={"city": "place"})]]
        receipt = await receiver(store).receive([event()])

        assert receipt == Receipt(1, 0, ())
        assert [one.vars for one in store.kept] == [{"place": "Turin"}]
        assert (store.refreshed, store.woken) == (2, [ACCOUNT])

    async def test_what_is_not_exported_any_more_is_counted(self) -> None:
        store = Store(export())
        store.changed = [[]]
        receipt = await receiver(store, auto_export=None).receive([event()])

        assert receipt == Receipt(0, 1, ())
        assert (store.kept, store.unexported) == ([], [(AUDIENCE, "spring_buyers")])

    async def test_what_is_exported_by_now_is_kept(self) -> None:
        """And not counted as ignored."""
        store = Store()
        store.changed = [[export()]]
        receipt = await receiver(store, auto_export=None).receive([event()])

        assert receipt == Receipt(1, 0, ())
        assert (len(store.kept), store.unexported) == (1, [])

    async def test_each_event_is_kept_or_counted_once(self) -> None:
        """One audience of two is exported, the other one is by the time that it is counted as ignored."""
        other = export(id=2, audience_id="other")
        store = Store(export())
        store.changed = [[export()], None, [export(), other]]
        receipt = await receiver(store, auto_export=None).receive(
            [event(), event(audience_id="other"), event(audience_id="third")]
        )

        assert receipt == Receipt(2, 1, ())
        assert [one.export_id for one in store.kept] == [1, 2]
        assert store.unexported == [("third", "spring_buyers")]

    async def test_who_had_no_address_may_have_one(self) -> None:
        """In the field that was ordered since: nothing is rejected that should have been kept."""
        store = Store(export(email_field="work_email"))
        store.changed = [[export()]]
        receipt = await receiver(store).receive([event()])

        assert receipt == Receipt(1, 0, ())
        assert len(store.kept) == 1

    async def test_what_is_rejected_by_the_newest_export_is_rejected_once(self) -> None:
        store = Store(export(email_field="work_email"))
        store.changed = [[export(email_field="home_email")]]
        receipt = await receiver(store).receive([event()])

        assert receipt == Receipt(
            0, 0, (Rejection(Reason.NO_USABLE_ADDRESS, "data.home_email holds no usable e-mail address."),)
        )

    async def test_it_is_seen_while_another_audience_is_started(self) -> None:
        """The start reads the exports anew; what was made of the earlier ones would go with the version of the new
        ones.
        """
        store = Store(export(fields={"city": "town"}))
        store.stored = (2, [export(fields={"city": "place"})])
        receipt = await receiver(store).receive([event(), event(audience_id="other")])

        assert receipt == Receipt(2, 0, ())
        assert [one.vars for one in store.kept] == [{"place": "Turin"}, {}]
