"""Problems without an error: a list that changed outside the service, and an audience without events."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.list_check import SMALLEST_JUMP
from app.sandbox.faults import Html
from app.sandbox.lytics import webhooks
from app.sandbox.rules import Rule
from tests.promises.kinds import sqlite_in_small_runs
from tests.service import API_KEY, LIST
from tests.world import World

kind = sqlite_in_small_runs()

HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with World(tmp_path) as world:
        yield world


async def enter(world: World, *people: str) -> None:
    for person in people:
        await world.send(webhooks.enter(f"{person}@example.com", at=world.clock()))
    await world.work_until_delivered()


def add_by_hand(world: World, address: str) -> None:
    """Add an address to the list, like an operator in My Sailthru."""
    account = world.sailthru.account(API_KEY)
    profile = account.create()
    account.set_key(profile, "email", address)
    account.join(profile, LIST)


async def export(world: World) -> dict[str, Any]:
    (item,) = (await world.admin("/exports"))["items"]
    found: dict[str, Any] = item
    return found


class TestListSize:
    def test_list_sizes_are_read_once_an_hour(self, world: World) -> None:
        """One call reads all lists. Our own joins and one address added by hand do not stop the export."""

        async def story() -> None:
            await enter(world, *(f"p{n}" for n in range(30)))
            await world.sleep(2 * HOUR)
            add_by_hand(world, "by-hand@example.com")
            before = world.account()["calls"]["GET /list"]
            await enter(world, *(f"q{n}" for n in range(30)))
            await world.sleep(12 * HOUR)
            found = await export(world)

            assert found["state"] == "running"
            assert 11 <= world.account()["calls"]["GET /list"] - before <= 13

        world.run(story())

    # On PostgreSQL replicas share one check an hour, so a new process does not check again.
    @pytest.mark.parametrize("kind", ["sqlite"])
    def test_list_size_in_doubt_after_a_crash_is_no_change(self, world: World) -> None:
        """The process dies before it records many applied calls. The next process reads the list size at once.

        The members in doubt do not count as a change later. 40 members removed by hand do.
        """

        async def story() -> tuple[int, str, str]:
            await enter(world, "first")
            batch = [webhooks.enter(f"p{n}@example.com", at=world.clock()) for n in range(60)]
            await world.send(batch)
            await world.sleep(0.14)
            await world.die()
            await world.sleep(1)
            unsure = (await world.service.exports.all())[0].list_others_in_doubt
            await world.work_until_delivered()
            await world.sleep(2 * HOUR)
            then = await export(world)
            account = world.sailthru.account(API_KEY)
            for n in range(40):
                profile = account.find("email", f"p{n}@example.com")
                assert profile is not None
                account.leave(profile, LIST)
            await world.sleep(2 * HOUR)
            later = await export(world)
            return unsure, then["state"], later["state"]

        unsure, then, later = world.run(story())

        assert unsure > SMALLEST_JUMP
        assert then == "running"
        assert later == "list_changed"

    def test_deleted_list_stops_its_export_until_an_operator_resumes_it(self, world: World) -> None:
        """Changes stay pending meanwhile. The resumed export creates the list again."""

        async def story() -> None:
            await enter(world, *(f"p{n}" for n in range(5)))
            lists = world.sailthru.account(API_KEY).lists
            lists.remove(next(found for found in lists if found.name == LIST))
            await world.sleep(HOUR + 10)
            stopped = await export(world)
            await world.send(webhooks.enter("late@example.com", at=world.clock()))
            await world.sleep(HOUR)
            waits = await export(world)
            metrics = await world.metrics()
            await world.admin("/exports/1", method="PATCH", json={"state": "running"})
            await world.work_until_delivered()
            resumed = await export(world)
            await world.send(webhooks.exit_("p0@example.com", at=world.clock()))
            await world.send(webhooks.enter("p0@example.com", at=world.clock() + timedelta(seconds=1)))
            await world.work_until_delivered()
            await world.sleep(3 * HOUR)
            later = await export(world)

            assert stopped["state"] == "list_changed"
            assert "is gone from Sailthru" in stopped["reason"]
            assert waits["counts"]["pending"] == 1
            assert 'lytics_sailthru_export_state{export="1",state="list_changed"} 1.0' in metrics
            assert (resumed["state"], resumed["reason"], resumed["list_ready"]) == ("running", None, True)
            assert world.sailthru.members(LIST) == {"late@example.com", "p0@example.com"}
            assert later["state"] == "running"

        world.run(story())

    def test_list_that_lost_many_members_stops_its_export(self, world: World) -> None:
        async def story() -> None:
            await enter(world, *(f"p{n}" for n in range(40)))
            await world.sleep(HOUR)
            account = world.sailthru.account(API_KEY)
            for number in range(20):
                profile = account.find("email", f"p{number}@example.com")
                assert profile is not None
                account.leave(profile, LIST)
            await world.sleep(HOUR + 10)
            stopped = await export(world)
            await world.admin("/exports/1", method="PATCH", json={"state": "running"})
            await world.sleep(3 * HOUR)
            resumed = await export(world)

            assert stopped["state"] == "list_changed"
            assert "-20 people" in stopped["reason"]
            assert resumed["state"] == "running"

        world.run(story())

    def test_outage_is_not_mistaken_for_a_changed_list(self, world: World) -> None:
        async def story() -> None:
            await enter(world, "ada")
            world.sailthru.faults.set([Rule(Html(status=503))])
            await world.sleep(5 * HOUR)

            assert (await export(world))["state"] == "running"

        world.run(story())


class TestSilence:
    @pytest.fixture
    def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
        hours = getattr(request, "param", 2)
        with World(tmp_path, different={"silent_after_hours": hours}) as world:
            yield world

    def test_export_is_silent_until_the_next_webhook(self, world: World) -> None:
        async def story() -> None:
            await enter(world, "ada")
            await world.sleep(1.9 * HOUR)
            before = (await export(world))["is_silent"]
            await world.sleep(0.5 * HOUR)
            silent = await export(world)
            metrics = await world.metrics()
            await enter(world, "grace")
            await world.sleep(0.3 * HOUR)
            after = (await export(world))["is_silent"]

            assert (before, silent["is_silent"], after) == (False, True, False)
            assert silent["state"] == "running"
            assert 'lytics_sailthru_export_silent{export="1"} 1.0' in metrics
            assert "lytics_sailthru_seconds_since_last_webhook" in metrics

        world.run(story())

    def test_export_without_any_webhook_is_not_silent(self, world: World) -> None:
        async def story() -> None:
            await world.export({})
            await world.sleep(3 * HOUR)

            assert not (await export(world))["is_silent"]

        world.run(story())

    @pytest.mark.parametrize("world", [0], indirect=True)
    def test_setting_0_disables_the_check(self, world: World) -> None:
        async def story() -> None:
            await enter(world, "ada")
            await world.sleep(3 * HOUR)

            assert not (await export(world))["is_silent"]

        world.run(story())
