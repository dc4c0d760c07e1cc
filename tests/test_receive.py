"""Receiver: the transactions that the events of a webhook take, and the parts of the service that it wakes."""

from collections.abc import Sequence

import pytest

from app.domain.change import AudienceEvent
from app.domain.errors import StoreUnavailable
from app.domain.ledger import BatchResult
from app.domain.rejection import Reason, Rejection
from app.domain.resolve import Received
from app.receive import Receipt, Receiver
from tests.factories import ACCOUNT, event

NO_ADDRESS = Rejection(Reason.NO_USABLE_ADDRESS, "data.email holds no usable e-mail address.")


class Store:
    """Accepts events that have an e-mail address, rejects the others, and counts the transactions."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.woken: list[str] = []
        self.new_exports = 0
        self.has_new_exports = False
        self.fails_after = 10

    async def receive(self, events: Sequence[AudienceEvent]) -> Received:
        if len(self.sizes) == self.fails_after:
            raise StoreUnavailable("The disk is full.")
        self.sizes.append(len(events))
        accepted = sum("email" in event.profile for event in events)
        result = BatchResult((), frozenset({ACCOUNT} if accepted else ()))
        rejected = (NO_ADDRESS,) * (len(events) - accepted)
        return Received(accepted, 0, rejected, result, has_new_exports=self.has_new_exports)

    def on_new_export(self) -> None:
        self.new_exports += 1


def receiver(store: Store) -> Receiver:
    return Receiver(store.receive, wake=store.woken.append, on_new_export=store.on_new_export)


async def test_webhook_is_stored_in_one_transaction() -> None:
    store = Store()

    assert await receiver(store).receive([event(), event(), event(profile={})]) == Receipt(2, 0, (NO_ADDRESS,))
    assert store.sizes == [3]


async def test_account_with_due_members_is_woken() -> None:
    store = Store()
    await receiver(store).receive([event()])

    assert (store.woken, store.new_exports) == ([ACCOUNT], 0)


async def test_new_export_is_reported() -> None:
    store = Store()
    store.has_new_exports = True
    await receiver(store).receive([event(profile={})])

    assert (store.woken, store.new_exports) == ([], 1)


async def test_more_events_than_lytics_sends_at_once_take_several_transactions() -> None:
    """Each transaction has at most 1,000 events, and the receipt counts all events."""
    store = Store()
    receipt = await receiver(store).receive([*[event()] * 2001, *[event(profile={})] * 2])

    assert store.sizes == [1000, 1000, 3]
    assert receipt == Receipt(2001, 0, (NO_ADDRESS, NO_ADDRESS))


async def test_store_that_fails_halfway_fails_the_webhook() -> None:
    """Accounts of the events that were stored are woken anyway."""
    store = Store()
    store.fails_after = 1
    with pytest.raises(StoreUnavailable):
        await receiver(store).receive([event()] * 1001)

    assert store.woken == [ACCOUNT]


async def test_no_events_need_no_transaction() -> None:
    store = Store()

    assert await receiver(store).receive([]) == Receipt(0, 0, ())
    assert store.sizes == []
