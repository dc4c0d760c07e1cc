from dataclasses import replace

from app.domain.account import Pause, Standing
from app.store.accounts import Accounts
from app.store.engine import Database
from tests.factories import HOUR, NOON, SECOND

PAUSED = Standing(Pause.OUTAGE, "9", "Sailthru has a problem.", NOON, 3, NOON + 40 * SECOND, 2 * HOUR)


async def test_an_account_never_saved_runs(database: Database) -> None:
    assert await Accounts(database).load("default") == Standing()


async def test_each_account_stands_as_it_was_saved_last(database: Database) -> None:
    accounts = Accounts(database)
    await accounts.save("default", PAUSED)
    await accounts.save("other", replace(PAUSED, pause=Pause.REFUSED))
    await accounts.save("other", PAUSED.resumed(NOON + HOUR))

    assert await Accounts(database).load("default") == PAUSED
    assert await Accounts(database).load("other") == Standing(paused_for=3 * HOUR)
