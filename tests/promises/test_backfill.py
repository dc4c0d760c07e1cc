"""Backfill: the final list equals the audience despite live changes and faults, and no member joins twice."""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from app.sandbox.faults import Error, Slow
from app.sandbox.lytics import SCAN, webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from tests.factories import MINUTE, NOON
from tests.promises.kinds import sqlite_in_small_runs
from tests.service import API_KEY, LIST
from tests.sizes import size
from tests.world import Died, World

kind = sqlite_in_small_runs()

OTHER = Audience("9999", "Autumn Buyers", "autumn_buyers")


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with World(tmp_path, audiences=(SPRING_BUYERS, OTHER), confirmed=[]) as world:
        yield world


async def start_export(world: World, **different: Any) -> dict[str, Any]:
    body = {"audience": SPRING_BUYERS.id, "existing_users": True} | different
    found: dict[str, Any] = await world.admin("/exports", method="POST", json=body)
    return found


async def read_backfill(world: World, export_id: int = 1, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = await world.admin(f"/exports/{export_id}/backfills/{number}")
    return found


async def wait_for_end(world: World, export_id: int = 1, number: int = 1) -> dict[str, Any]:
    async def has_ended() -> bool:
        return (await read_backfill(world, export_id, number))["ended_at"] is not None

    await world.work_until(has_ended, patience=timedelta(days=2))
    return await read_backfill(world, export_id, number)


def add_people(world: World, count: int, audience: Audience = SPRING_BUYERS) -> set[str]:
    """Add people to an audience, and return their addresses."""
    people = world.lytics.scans.people[audience.id]
    people.generate(count)
    return {str(profile["email"]) for profile in people.page(0, count)}


def joins(world: World, list_name: str = LIST) -> Counter[str]:
    """Return the number of join calls for each address."""
    confirmed = world.confirmed or []
    return Counter(call["id"] for call in confirmed if call.get("lists", {}).get(list_name) == 1)


class TestWholeAudience:
    def test_each_person_in_the_audience_joins_once(self, world: World) -> None:
        """Members get only the chosen fields, and the counts of the backfill cover each row."""

        async def story() -> None:
            addresses = add_people(world, 250)
            world.lytics.scans.people[SPRING_BUYERS.id].add(
                [{"_id": "1", "email": ""}, {"_id": "2"}, {"_id": "3", "email": "no address"}]
            )
            begun = await start_export(world, fields=["first_name"])
            done = await wait_for_end(world)
            await world.work_until_delivered()
            profile = world.sailthru.account(API_KEY).find("email", min(addresses))

            assert begun["backfill"]["state"] == "queued"
            assert world.sailthru.members(LIST) == addresses
            assert set(joins(world).values()) == {1}
            assert (done["state"], done["scanned"], done["total"], done["queued"]) == ("completed", 253, 253, 250)
            assert done["skipped"] == {"no_address": 2, "invalid": 1}
            assert done["joins_at_most"] == 250
            assert profile is not None
            assert set(profile.vars) == {"first_name"}

        world.run(story())

    def test_unchanged_members_get_no_second_call(self, world: World) -> None:
        """Webhooks and scans format values differently, but both produce the same vars."""

        async def story() -> None:
            addresses = add_people(world, 30)
            fields = ["first_name", "visitct", "is_member", "lastvisit_ts", "emails", "hourly"]
            await start_export(world, existing_users=False, fields=fields)
            for profile in world.lytics.scans.people[SPRING_BUYERS.id].page(0, 15):
                sent = {name: profile[name] for name in fields}
                sent["lastvisit_ts"] = str(sent["lastvisit_ts"]).replace(".000Z", "Z")
                await world.send(webhooks.enter(str(profile["email"]), at=world.clock(), fields=sent))
            await world.work_until_delivered()
            await start_export(world)
            first = await wait_for_end(world)
            await world.work_until_delivered()
            await start_export(world)
            second = await wait_for_end(world, number=2)
            account = world.sailthru.account(API_KEY)
            kinds = {
                (name, type(value))
                for address in addresses
                for profile in [account.find("email", address)]
                if profile is not None
                for name, value in profile.vars.items()
            }

            assert (first["queued"], first["skipped"]) == (15, {"already_there": 15})
            assert (second["queued"], second["skipped"]) == (0, {"already_there": 30})
            assert len(world.confirmed or []) == 30
            assert kinds == {
                ("first_name", str),
                ("visitct", int),
                ("is_member", bool),
                ("lastvisit_ts", str),
                ("emails", list),
                ("hourly", dict),
            }

        world.run(story())

    def test_refused_member_becomes_a_dead_letter(self, world: World) -> None:
        async def story() -> None:
            addresses = add_people(world, 40)
            bad = "person7@example.com"
            refused = Error(status=400, code=35, text="Known hardbounce")
            world.sailthru.faults.set([Rule(refused, ids=frozenset({bad}))])
            await start_export(world)
            await wait_for_end(world)

            async def is_delivered() -> bool:
                return (await world.counts())["pending"] == 0

            await world.work_until(is_delivered, patience=timedelta(hours=1))

            assert world.sailthru.members(LIST) == addresses - {bad}
            assert (await world.counts())["dead"] == 1

        world.run(story())


class TestLiveChanges:
    @pytest.mark.parametrize("moment", ["before", "during", "after"])
    def test_live_change_wins_over_the_scan(self, world: World, moment: str) -> None:
        """The live changes arrive before, during or after the scan of the member's page.

        Members that left are not on the list, new members are, and newer fields win.
        """

        async def story() -> None:
            addresses = add_people(world, 350)
            leaver, changer, newcomer = "person250@example.com", "person251@example.com", "new@example.com"
            await start_export(world, existing_users=False, fields=["first_name"])

            async def send_changes() -> None:
                at = world.clock()
                await world.send(webhooks.enter(changer, at=at, fields={"first_name": "Newest"}))
                await world.send(webhooks.enter(leaver, at=at - timedelta(minutes=30)))
                await world.send(webhooks.exit_(leaver, at=at))
                await world.send(webhooks.enter(newcomer, at=at))

            if moment == "before":
                await send_changes()
            scan_slowly(world)
            await start_export(world)
            if moment == "during":
                await until_scanned(world, 100)
                await send_changes()
            await wait_for_end(world)
            if moment == "after":
                await send_changes()
            await world.work_until_delivered()
            account = world.sailthru.account(API_KEY)
            changed = account.find("email", changer)

            assert world.sailthru.members(LIST) == addresses - {leaver} | {newcomer}
            assert changed is not None
            assert changed.vars == {"first_name": "Newest"}
            assert max(joins(world).values()) == 1

        world.run(story())

    def test_exit_by_id_finds_a_member_scanned_without_id(self, world: World) -> None:
        """The first event adds the Lytics id to the member."""

        async def story() -> None:
            world.lytics.scans.people[SPRING_BUYERS.id].add([{"_id": "not a number", "email": "ada@example.com"}])
            await start_export(world)
            await wait_for_end(world)
            await world.send(webhooks.change("ada@example.com", sent_at=world.clock(), user_id="77"))
            await world.send(webhooks.exit_(None, at=world.clock(), user_id="77"))
            await world.work_until_delivered()

            assert world.sailthru.members(LIST) == set()

        world.run(story())

    @pytest.mark.usefixtures("unmeasured")
    def test_live_changes_overtake_a_backfill(self, tmp_path: Path) -> None:
        """While 1,500 members wait for the rate limit, p95 of live changes is at most 1.5 times the idle p95."""
        limit, waiting = size((200, 500), (600, 1500))

        def live(folder: Path, *, is_busy: bool) -> float:
            folder.mkdir()
            with World(folder, limits={("POST", "/user"): limit}) as world:

                async def story() -> float:
                    await start_export(world, existing_users=False)
                    if is_busy:
                        add_people(world, waiting)
                        await start_export(world)
                    await world.sleep(60)
                    sent: dict[str, datetime] = {}
                    for number in range(60):
                        sent[f"live{number}@example.com"] = world.clock()
                        await world.send(webhooks.enter(f"live{number}@example.com", at=world.clock()))
                        await world.sleep(2)
                    await world.work_until_delivered()
                    events = world.sailthru.account(API_KEY).lo_events
                    joined = {event.email: event.time for event in events if event.entry == "List Joined"}
                    waits = [(joined[address] - at).total_seconds() for address, at in sent.items()]
                    return quantiles(waits, n=20)[-1]

                return world.run(story())

        assert live(tmp_path / "busy", is_busy=True) <= 1.5 * live(tmp_path / "idle", is_busy=False)


class TestFaults:
    @pytest.mark.usefixtures("unmeasured")
    def test_killed_backfill_continues_from_its_last_page(self, tmp_path: Path) -> None:
        """The process dies after random commits. Each death repeats at most one page, and no member joins twice.

        The service may repeat a join after an unknown outcome, and counts it.
        """
        dice = random.Random(20261125)
        many, kills = size((600, 4), (1500, 10))
        with World(tmp_path, confirmed=[], seed=5) as world:

            async def story() -> None:
                addresses = add_people(world, many)
                await start_export(world)
                for _ in range(kills):
                    world.life.commits_left = dice.randrange(1, 40)
                    with suppress(Died):
                        while True:
                            await world.sleep(1)
                    await world.restart()
                done = await wait_for_end(world)
                await world.work_until_delivered()

                assert world.sailthru.members(LIST) == addresses
                assert (done["state"], done["queued"]) == ("completed", many)
                assert world.lytics.calls[f"GET {SCAN}"] <= many // 100 + kills
                assert max(joins(world).values()) <= 1 + world.joins_repeated

            world.run(story())

    def test_expired_scan_starts_again(self, world: World) -> None:
        """Members of the first attempt are not joined again."""

        async def story() -> None:
            addresses = add_people(world, 500)
            scan_slowly(world)
            await start_export(world)
            await until_scanned(world, 200)
            world.lytics.scans.expire()
            done = await wait_for_end(world)
            await world.work_until_delivered()

            assert (done["state"], world.sailthru.members(LIST)) == ("completed", addresses)
            assert done["queued"] == 500
            assert max(joins(world).values()) == 1

        world.run(story())

    def test_endless_scan_fails_with_a_reason(self, world: World) -> None:
        async def story() -> None:
            add_people(world, 500)
            world.lytics.scans.switches.loops = True
            await start_export(world)
            done = await wait_for_end(world)

            assert done["state"] == "failed"
            assert "was read before" in done["reason"]
            assert "after a restart" in done["reason"]

        world.run(story())

    def test_audience_deleted_during_the_scan_fails_with_a_reason(self, world: World) -> None:
        async def story() -> None:
            add_people(world, 500)
            scan_slowly(world)
            await start_export(world)
            await until_scanned(world, 100)
            world.lytics.put(replace(SPRING_BUYERS, is_deleted=True))
            done = await wait_for_end(world)
            await world.work_until_delivered()

            assert done["state"] == "failed"
            assert "deleted in Lytics" in done["reason"]
            assert 100 <= len(world.sailthru.members(LIST)) < 500

        world.run(story())

    def test_backfill_waits_while_the_lytics_token_is_expired(self, world: World) -> None:
        async def story() -> None:
            addresses = add_people(world, 300)
            await start_export(world, existing_users=False)
            world.lytics.availability.token_expired = True
            await world.admin("/exports/1/backfills", method="POST", json={})
            await world.sleep(600)
            waits = await read_backfill(world)
            world.lytics.availability.token_expired = False
            done = await wait_for_end(world)
            await world.work_until_delivered()

            assert waits["state"] == "waiting"
            assert "expired" in waits["waiting_for"]
            assert (done["state"], done["waiting_for"]) == ("completed", None)
            assert world.sailthru.members(LIST) == addresses

        world.run(story())


class TestWaiting:
    def test_paused_export_holds_its_backfill(self, world: World) -> None:
        """The backfill reads nothing before its export runs. A stop of the export cancels it."""

        async def story() -> None:
            addresses = add_people(world, 300)
            await start_export(world, state="paused")
            await world.sleep(60)
            waits = await read_backfill(world)
            await world.admin("/exports/1", method="PATCH", json={"state": "running"})
            await wait_for_end(world)
            await world.work_until_delivered()
            await start_export(world)
            await wait_for_end(world, number=2)
            await world.admin("/exports/1", method="PATCH", json={"state": "paused"})
            await start_export(world)
            await world.admin("/exports/1", method="DELETE")
            done = await wait_for_end(world, number=3)

            assert (waits["state"], waits["scanned"]) == ("waiting", 0)
            assert "paused" in waits["waiting_for"]
            assert world.sailthru.members(LIST) == addresses
            assert (done["state"], done["reason"]) == ("cancelled", "The export was stopped.")

        world.run(story())

    @pytest.mark.usefixtures("unmeasured")
    def test_two_backfills_of_one_account_share_the_rate_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither backfill waits for the end of the other, and live changes wait for neither."""
        many = size(750, 3000)
        # At most a third of the audience is pending, as in the full size with the real maximum of 1,000.
        monkeypatch.setattr("app.backfills.scan.MOST_PENDING", many // 3)
        limits = {("POST", "/user"): 2 * many // 5}
        with World(tmp_path, audiences=(SPRING_BUYERS, OTHER), limits=limits, confirmed=[]) as world:

            async def story() -> None:
                first = add_people(world, many)
                world.lytics.scans.people[OTHER.id].add(
                    [{"_id": str(n), "email": f"other{n}@example.com"} for n in range(many // 2)]
                )
                await start_export(world)
                await world.sleep(60)
                await start_export(world, audience=OTHER.id)
                await world.send(webhooks.enter("live@example.com", at=world.clock()))
                await world.sleep(3 * 60)
                halfway = {name: len(joins(world, name)) for name in (LIST, f"Lytics {OTHER.name}")}
                live = joins(world)["live@example.com"]
                await wait_for_end(world)
                await wait_for_end(world, export_id=2, number=2)
                await world.work_until_delivered()

                assert live == 1
                assert min(halfway.values()) >= many // 8, halfway
                assert world.sailthru.members(LIST) == first | {"live@example.com"}
                assert len(world.sailthru.members(f"Lytics {OTHER.name}")) == many // 2
                assert world.account()["over_limit"] == {}

            world.run(story())

    def test_cancelled_backfill_delivers_its_queued_members(self, world: World) -> None:
        """A new backfill adds the other members."""

        async def story() -> None:
            addresses = add_people(world, 1000)
            scan_slowly(world)
            await start_export(world)
            await until_scanned(world, 300)
            cancelled = await world.admin("/exports/1/backfills/1", method="DELETE")
            await world.sleep(60)
            await world.work_until_delivered()
            delivered = len(world.sailthru.members(LIST))
            await start_export(world)
            await wait_for_end(world, number=2)
            await world.work_until_delivered()

            assert cancelled["state"] == "cancelled"
            assert 300 <= delivered < 1000
            assert world.sailthru.members(LIST) == addresses
            assert max(joins(world).values()) == 1

        world.run(story())


def scan_slowly(world: World) -> None:
    """Make Lytics take a second for each page."""
    world.lytics.faults.set([Rule(Slow(seconds=1), endpoints=frozenset({SCAN}))])


async def until_scanned(world: World, rows: int) -> None:
    async def is_scanned() -> bool:
        return bool((await read_backfill(world))["scanned"] >= rows)

    while not await is_scanned():
        await world.sleep(0.01)


@pytest.mark.usefixtures("unmeasured")
def test_large_backfill_uses_its_share_of_the_rate_limit(tmp_path: Path, kind: str) -> None:
    """At least 97 % of a backfill's share is used in every whole minute, and no call is refused."""
    count = {"sqlite": size(1000, 10_000, 100_000), "postgresql": size(500, 2000)}[kind]
    limit = max(count // 8, size(200, 600))
    with World(tmp_path, limits={("POST", "/user"): limit}, confirmed=[]) as world:

        async def story() -> set[str]:
            addresses = add_people(world, count)
            await start_export(world)
            await wait_for_end(world)
            await world.work_until_delivered()
            return addresses

        addresses = world.run(story())
        minutes = Counter((at - NOON) // MINUTE for at in world.confirmed_at)
        whole = range(1, max(minutes))

        assert world.sailthru.members(LIST) == addresses
        assert set(joins(world).values()) == {1}
        assert world.account()["over_limit"] == {}
        assert min(minutes[minute] for minute in whole) >= 0.97 * 0.8 * 0.8 * limit, minutes
        assert max(minutes.values()) <= 0.8 * limit
