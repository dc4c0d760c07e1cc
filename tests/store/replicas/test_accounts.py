"""Circuit breakers in the store: they survive restarts and are shared by replicas."""

import asyncio
from dataclasses import replace

from app.domain.account import LONGEST_PROBE_WAIT, BreakerState, OpenReason
from app.domain.errors import Transient
from app.store.database.engine import Database
from app.store.replicas.accounts import Accounts
from tests.factories import ACCOUNT, HOUR, NOON, SECOND

CLOSED = BreakerState()
OPEN = BreakerState(OpenReason.OUTAGE, "9", "Sailthru has a problem.", NOON, 3, NOON + 40 * SECOND, 2 * HOUR)
DUE = NOON + 40 * SECOND
ERROR = Transient(9, "Sailthru has a problem.")


async def reopened(database: Database) -> Accounts:
    """Store a breaker that was open for two hours, closed for one, and is open again."""
    accounts = Accounts(database)
    earlier = CLOSED.opened(OpenReason.REFUSED, ERROR, NOON - 3 * HOUR)
    await accounts.save(ACCOUNT, CLOSED, earlier, NOON - 3 * HOUR)
    _, closed = await accounts.save(ACCOUNT, earlier, earlier.closed(NOON - HOUR), NOON - HOUR)
    await accounts.save(ACCOUNT, closed, OPEN, NOON)
    return accounts


async def test_unsaved_breaker_is_closed(database: Database) -> None:
    assert await Accounts(database).load(ACCOUNT) == CLOSED
    assert await Accounts(database).take_probe(ACCOUNT, NOON, DUE) is None


async def test_load_returns_last_saved_state_of_each_account(database: Database) -> None:
    accounts = await reopened(database)
    other = replace(OPEN, open_reason=OpenReason.REFUSED, was_open_for=0 * HOUR)
    changed = [
        await accounts.save("other", CLOSED, other, NOON),
        await accounts.save("other", other, other.closed(NOON + HOUR), NOON + HOUR),
    ]

    assert changed == [(CLOSED, other), (other, BreakerState(was_open_for=HOUR))]
    assert await Accounts(database).load(ACCOUNT) == OPEN
    assert await Accounts(database).load("other") == BreakerState(was_open_for=HOUR)


async def test_finding_of_another_replica_is_not_overwritten(database: Database) -> None:
    """`save` returns the previously stored state and the new one."""
    accounts = await reopened(database)
    found = replace(OPEN, open_reason=OpenReason.REFUSED, code="5", message="Wrong signature.", opened_at=NOON + HOUR)
    before, after = await accounts.save(ACCOUNT, CLOSED, replace(found, was_open_for=0 * HOUR), NOON + HOUR)

    assert before == OPEN
    assert after == await accounts.load(ACCOUNT) == replace(found, opened_at=NOON, was_open_for=2 * HOUR)


async def test_concurrent_openings_are_one_change(database: Database) -> None:
    """Only one replica learns that the breaker was closed before. This replica raises the alarm."""
    accounts = Accounts(database)
    after = CLOSED.opened(OpenReason.OUTAGE, ERROR, NOON)
    changed = await asyncio.gather(*(accounts.save(ACCOUNT, CLOSED, after, NOON) for _ in range(8)))

    assert sorted(stood.open_reason is None for stood, _ in changed) == [False] * 7 + [True]
    assert {stands for _, stands in changed} == {after}


async def test_one_of_many_replicas_takes_probe(database: Database) -> None:
    """The probe cannot be taken before it is due, nor again until the reservation ends."""
    accounts = await reopened(database)
    until = DUE + LONGEST_PROBE_WAIT
    early = await accounts.take_probe(ACCOUNT, DUE - SECOND, until)
    taken = await asyncio.gather(*(accounts.take_probe(ACCOUNT, DUE, until) for _ in range(8)))
    meanwhile = await accounts.take_probe(ACCOUNT, until - SECOND, until + HOUR)
    lapsed = await accounts.take_probe(ACCOUNT, until, until + LONGEST_PROBE_WAIT)

    assert early is None
    assert [state for state in taken if state is not None] == [replace(OPEN, probe_at=until)]
    assert meanwhile is None
    assert lapsed == replace(OPEN, probe_at=until + LONGEST_PROBE_WAIT)


async def test_probe_taken_by_wrong_clock_can_be_taken(database: Database) -> None:
    """The time of the probe is further ahead than any possible wait."""
    accounts = await reopened(database)
    await accounts.take_probe(ACCOUNT, NOON + HOUR, NOON + HOUR + LONGEST_PROBE_WAIT)

    assert await accounts.take_probe(ACCOUNT, NOON, DUE) == replace(OPEN, probe_at=DUE)


async def test_closed_breaker_has_no_probe(database: Database) -> None:
    accounts = await reopened(database)
    await accounts.save(ACCOUNT, OPEN, OPEN.closed(DUE), DUE)

    assert await accounts.take_probe(ACCOUNT, DUE + HOUR, DUE + 2 * HOUR) is None


async def test_replica_that_read_its_clock_earlier_gets_no_probe(database: Database) -> None:
    """The replica waited for the row while another one took the probe."""
    accounts = await reopened(database)
    await accounts.take_probe(ACCOUNT, DUE + SECOND, DUE + SECOND + LONGEST_PROBE_WAIT)

    assert await accounts.take_probe(ACCOUNT, DUE, DUE + LONGEST_PROBE_WAIT) is None
