"""within-limit: a backlog uses our share of the rate limit, except for the part that foreign callers need.

`tests/sailthru/test_rate_limit.py` tests single calls: foreign callers, clocks and windows.
"""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from app.sailthru.client import SailthruClient
from app.sailthru.protocol import Credentials
from app.sandbox.lytics import webhooks
from app.sandbox.sailthru import Access
from tests.factories import HOUR, MINUTE, NOON
from tests.promises.kinds import sqlite_in_small_runs
from tests.service import API_KEY, LIST
from tests.sizes import size
from tests.world import World

kind = sqlite_in_small_runs()

pytestmark = pytest.mark.usefixtures("unmeasured")

SHARE = 0.8
# Calls a minute, and people. PostgreSQL gets fewer, because each statement takes much longer.
SIZES = {"sqlite": size((300, 1500), (600, 3000)), "postgresql": (300, 1500)}


@pytest.mark.parametrize("taken", [0, 0.3], ids=["no foreign calls", "foreign calls take 30 %"])
def test_backlog_uses_its_share_beside_a_foreign_caller_and_gets_no_429(
    tmp_path: Path, kind: str, taken: float
) -> None:
    """At least 97 % of the usable calls leave in each whole minute, and never more than our share.

    At full size, 3,000 members wait for 600 calls a minute, or half of both on PostgreSQL.
    """
    limit, many = SIZES[kind]
    people = [f"person{n}@example.com" for n in range(many)]
    foreign = taken * limit

    async def call_as_foreigner(world: World) -> None:
        transport = httpx.ASGITransport(world.sailthru)
        credentials = Credentials("foreign-key", "foreign-secret", "https://sailthru.test")
        async with SailthruClient(credentials, transport=lambda: transport) as client:
            while foreign:
                await client.call("POST", "user", {"id": "foreign@example.org"})
                await asyncio.sleep(60 / foreign - 0.15)

    async def story(world: World) -> None:
        foreigner = asyncio.create_task(call_as_foreigner(world))
        for start in range(0, many, 500):
            batch = [webhooks.enter(address, at=world.clock()) for address in people[start : start + 500]]
            assert (await world.send(batch)).json()["accepted"] == 500
        await world.work_until_delivered(patience=HOUR)
        foreigner.cancel()

    keys = {"foreign-key": Access("foreign-secret", API_KEY)}
    with World(tmp_path, keys=keys, limits={("POST", "/user"): limit}, confirmed=[]) as world:
        world.run(story(world))
        minutes = Counter((at - NOON) // MINUTE for at in world.confirmed_at)
        whole = range(1, max(minutes))
        usable = min(limit * SHARE, limit - foreign)

        assert world.sailthru.members(LIST) == set(people)
        assert world.account()["over_limit"] == {}
        assert len(whole) >= 5
        assert min(minutes[minute] for minute in whole) >= 0.97 * usable, minutes
        assert max(minutes.values()) <= limit * SHARE
