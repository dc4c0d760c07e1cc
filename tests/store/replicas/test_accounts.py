"""How accounts stand: kept over restarts, and one for all replicas."""

import asyncio
from dataclasses import replace

from app.domain.account import LONGEST_PROBE_WAIT, BreakerState, OpenReason
from app.domain.errors import Transient
from app.store.database.engine import Database
from app.store.replicas.accounts import Accounts
from tests.factories import ACCOUNT, HOUR, NOON, SECOND

RUNS = BreakerState()
PAUSED = BreakerState(OpenReason.OUTAGE, "9", "Sailthru has a problem.", NOON, 3, NOON + 40 * SECOND, 2 * HOUR)
DUE = NOON + 40 * SECOND
ERROR = Transient(9, "Sailthru has a problem.")


async def paused(database: Database) -> Accounts:
    """With an account that was paused for two hours, ran for one, and is paused again."""
    accounts = Accounts(database)
    earlier = RUNS.paused(OpenReason.REFUSED, ERROR, NOON - 3 * HOUR)
    await accounts.save(ACCOUNT, RUNS, earlier, NOON - 3 * HOUR)
    _, runs = await accounts.save(ACCOUNT, earlier, earlier.resumed(NOON - HOUR), NOON - HOUR)
    await accounts.save(ACCOUNT, runs, PAUSED, NOON)
    return accounts


async def test_an_account_never_saved_runs(database: Database) -> None:
    """Nor is there a probe to take."""
    assert await Accounts(database).load(ACCOUNT) == RUNS
    assert await Accounts(database).take_probe(ACCOUNT, NOON, DUE) is None


async def test_each_account_stands_as_it_was_saved_last(database: Database) -> None:
    accounts = await paused(database)
    other = replace(PAUSED, pause=OpenReason.REFUSED, paused_for=0 * HOUR)
    changed = [
        await accounts.save("other", RUNS, other, NOON),
        await accounts.save("other", other, other.resumed(NOON + HOUR), NOON + HOUR),
    ]

    assert changed == [(RUNS, other), (other, BreakerState(paused_for=HOUR))]
    assert await Accounts(database).load(ACCOUNT) == PAUSED
    assert await Accounts(database).load("other") == BreakerState(paused_for=HOUR)


async def test_what_another_replica_has_found_is_not_overwritten(database: Database) -> None:
    """Who saves hears how the account stood in fact, and how it stands now."""
    accounts = await paused(database)
    found = replace(PAUSED, pause=OpenReason.REFUSED, code="5", reason="Wrong signature.", paused_at=NOON + HOUR)
    stood, stands = await accounts.save(ACCOUNT, RUNS, replace(found, paused_for=0 * HOUR), NOON + HOUR)

    assert stood == PAUSED
    assert stands == await accounts.load(ACCOUNT) == replace(found, paused_at=NOON, paused_for=2 * HOUR)


async def test_many_who_find_it_paused_at_once_are_one_change(database: Database) -> None:
    """One of them hears that it ran before, and tells the alarm."""
    accounts = Accounts(database)
    after = RUNS.paused(OpenReason.OUTAGE, ERROR, NOON)
    changed = await asyncio.gather(*(accounts.save(ACCOUNT, RUNS, after, NOON) for _ in range(8)))

    assert sorted(stood.pause is None for stood, _ in changed) == [False] * 7 + [True]
    assert {stands for _, stands in changed} == {after}


async def test_one_of_many_takes_the_probe(database: Database) -> None:
    """Not before it is due; nobody else has it until it lapses."""
    accounts = await paused(database)
    until = DUE + LONGEST_PROBE_WAIT
    early = await accounts.take_probe(ACCOUNT, DUE - SECOND, until)
    taken = await asyncio.gather(*(accounts.take_probe(ACCOUNT, DUE, until) for _ in range(8)))
    meanwhile = await accounts.take_probe(ACCOUNT, until - SECOND, until + HOUR)
    lapsed = await accounts.take_probe(ACCOUNT, until, until + LONGEST_PROBE_WAIT)

    assert early is None
    assert [one for one in taken if one is not None] == [replace(PAUSED, probe_at=until)]
    assert meanwhile is None
    assert lapsed == replace(PAUSED, probe_at=until + LONGEST_PROBE_WAIT)


async def test_a_probe_that_a_wrong_clock_has_taken_is_taken_over(database: Database) -> None:
    """It lies further ahead than any probe can."""
    accounts = await paused(database)
    await accounts.take_probe(ACCOUNT, NOON + HOUR, NOON + HOUR + LONGEST_PROBE_WAIT)

    assert await accounts.take_probe(ACCOUNT, NOON, DUE) == replace(PAUSED, probe_at=DUE)


async def test_an_account_that_runs_again_has_no_probe(database: Database) -> None:
    accounts = await paused(database)
    await accounts.save(ACCOUNT, PAUSED, PAUSED.resumed(DUE), DUE)

    assert await accounts.take_probe(ACCOUNT, DUE + HOUR, DUE + 2 * HOUR) is None


async def test_who_looked_at_its_clock_a_moment_earlier_makes_no_probe(database: Database) -> None:
    """It has waited for the row since, while another one took the probe."""
    accounts = await paused(database)
    await accounts.take_probe(ACCOUNT, DUE + SECOND, DUE + SECOND + LONGEST_PROBE_WAIT)

    assert await accounts.take_probe(ACCOUNT, DUE, DUE + LONGEST_PROBE_WAIT) is None
