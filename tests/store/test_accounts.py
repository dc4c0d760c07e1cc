import asyncio
from dataclasses import replace

from app.domain.account import Pause, Standing
from app.store.accounts import Accounts
from app.store.engine import Database
from tests.factories import HOUR, NOON, SECOND

RUNS = Standing()
PAUSED = Standing(Pause.OUTAGE, "9", "Sailthru has a problem.", NOON, 3, NOON + 40 * SECOND, 2 * HOUR)


async def test_an_account_never_saved_runs(database: Database) -> None:
    assert await Accounts(database).load("default") == RUNS


async def test_each_account_stands_as_it_was_saved_last(database: Database) -> None:
    accounts = Accounts(database)
    refused = replace(PAUSED, pause=Pause.REFUSED, paused_for=0 * HOUR)
    paused = replace(PAUSED, paused_for=0 * HOUR)
    await accounts.save("default", RUNS, paused, NOON)
    await accounts.save("other", RUNS, refused, NOON)
    await accounts.save("other", refused, RUNS, NOON + HOUR)

    assert await Accounts(database).load("default") == paused
    assert await Accounts(database).load("other") == Standing(paused_for=HOUR)


async def test_replicas_that_find_the_same_at_the_same_time_pause_once(database: Database) -> None:
    """
    All hear how it stood in fact: the first that it ran, the others that it was paused.
    """
    accounts = Accounts(database)
    found = [replace(PAUSED, paused_at=NOON + n * SECOND, paused_for=0 * HOUR) for n in range(8)]
    saved = await asyncio.gather(*(accounts.save("default", RUNS, one, NOON) for one in found))
    stored = await accounts.load("default")

    assert sum(before == RUNS for before, _ in saved) == 1
    assert {after.paused_at for _, after in saved} == {stored.paused_at}


async def test_a_probe_is_made_by_one_replica(database: Database) -> None:
    """
    The one that is due; the others hear nothing until the next one is.
    """
    accounts = Accounts(database)
    await accounts.save("default", RUNS, PAUSED, NOON)
    now = NOON + 41 * SECOND
    asked = [accounts.take_probe("default", now, until=now + 30 * SECOND) for _ in range(8)]
    taken = [standing for standing in await asyncio.gather(*asked) if standing is not None]
    too_early = await accounts.take_probe("default", now + 29 * SECOND, until=now + HOUR)
    later = await accounts.take_probe("default", now + 30 * SECOND, until=now + HOUR)

    assert [one.probe_at for one in taken] == [now + 30 * SECOND]
    assert too_early is None
    assert later is not None


async def test_an_account_that_runs_has_no_probe(database: Database) -> None:
    assert await Accounts(database).take_probe("default", NOON, until=NOON + HOUR) is None
