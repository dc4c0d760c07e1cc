"""isolated: one bad record never stops the rest, one bad account never slows another, and an outage is nobody's fault.

In a time that jumps, so that days pass in seconds and latencies are exact.
"""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from app.domain.account import OUTAGE_FAILURES, BreakerState
from app.domain.errors import StoreUnavailable
from app.sandbox.faults import AnyFault, Error, Hang, Html, Reset, Slow
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from app.store.replicas.accounts import Accounts
from tests.factories import HOUR, MINUTE, SECOND
from tests.service import API_KEY, LIST
from tests.sizes import size
from tests.world import World

pytestmark = pytest.mark.usefixtures("unmeasured")

PEOPLE = [f"person{n}@example.com" for n in range(40)]
# A database that is asked over a connection takes so much longer for each probe and each retry: there the window is so
# much shorter, and everything with it.
SHORTER = {"sqlite": size(10, 1), "postgresql": 10}
WINDOW_HOURS = 76
POISON = "poison@example.com"


async def enter(world: World, *addresses: str) -> None:
    for address in addresses:
        answer = await world.send(webhooks.enter(address, at=world.clock()))
        assert answer.status_code == 200


async def dead_letters(world: World) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await world.admin("/dead-letters"))["items"]
    return items


@pytest.mark.parametrize(
    "fault", [Error(), Html(status=503), Hang(applied=False)], ids=["500 with 9", "HTML 503", "timeout"]
)
def test_a_poison_person_dies_alone_once_the_window_is_over(tmp_path: Path, kind: str, fault: AnyFault) -> None:
    """Whoever else comes in the 76 hours of the window is told at once; after it the letter says what happened and
    what to do.
    """
    hour = 3600 / SHORTER[kind]

    async def story(world: World) -> tuple[list[timedelta], list[Any], list[Any]]:
        await enter(world, "first@example.com")
        await world.work_until_told()
        world.sailthru.faults.set([Rule(fault, ids=frozenset({POISON}))])
        await enter(world, POISON)
        waits = []
        for number in range(19):
            began = world.clock()
            await enter(world, PEOPLE[number])
            while PEOPLE[number] not in world.sailthru.members(LIST):
                await world.sleep(0.1)
            waits.append(world.clock() - began)
            await world.sleep(4 * hour - waits[-1].total_seconds())
        before = await dead_letters(world)
        # The last try comes up to an hour after the end of the window.
        await world.sleep(2 * 3600)
        return waits, before, await dead_letters(world)

    with World(tmp_path, different={"retry_window_hours": WINDOW_HOURS / SHORTER[kind]}) as world:
        waits, before, after = world.run(story(world))

        assert max(waits) < SECOND
        assert before == []
        (letter,) = after
        assert (letter["email"], letter["code"], letter["desired"]) == (POISON, "retry_window_over", "in")
        assert letter["next_step"]
        assert world.sailthru.members(LIST) == {"first@example.com", *PEOPLE[:19]}


@pytest.mark.parametrize("is_list", [False, True], ids=["their records", "their list"])
def test_many_who_fail_do_not_keep_others_waiting(tmp_path: Path, *, is_list: bool) -> None:
    """A hundred people whose calls always end in an error look like an outage at first: a newcomer then is the next
    probe, within a minute. Before long those who fail are known, and others are told at once.
    """
    poison = [f"poison{n}@example.com" for n in range(size(30, 100))]
    autumn = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Autumn Buyers", "autumn_buyers")

    async def story(world: World) -> list[timedelta]:
        await enter(world, "first@example.com")
        await world.work_until_told()
        world.lytics.put(autumn)
        fails = Rule(Error(), endpoints=frozenset({"/list"})) if is_list else Rule(Error(), ids=frozenset(poison))
        world.sailthru.faults.set([fails])
        audience = autumn if is_list else SPRING_BUYERS
        await world.send([webhooks.enter(address, audience, at=world.clock()) for address in poison])
        await world.sleep(30)
        waits = []
        for address in PEOPLE[:20]:
            began = world.clock()
            await enter(world, address)
            while address not in world.sailthru.members(LIST):
                await world.sleep(0.5)
            waits.append(world.clock() - began)
            await world.sleep(120)
        return waits

    with World(tmp_path) as world:
        waits = world.run(story(world))

        assert max(waits) <= 61 * SECOND, waits
        assert max(waits[-10:]) <= SECOND, waits
        assert world.run(world.counts())["pending"] == len(poison)


def test_an_outage_of_80_hours_costs_nobody_anything(tmp_path: Path, kind: str) -> None:
    """Nobody is given up although the window is 76 hours (on PostgreSQL both are a tenth); ten flips of each person are
    one call in the end.
    """
    hour = 3600 / SHORTER[kind]

    async def story(world: World) -> tuple[dict[str, int], dict[str, int]]:
        await enter(world, *PEOPLE)
        await world.work_until_told()
        world.sailthru.faults.set([Rule(Html(status=503))])
        for _ in range(5):
            for change in (webhooks.exit_, webhooks.enter):
                at = world.clock()
                answer = await world.send([change(address, at=at) for address in [*PEOPLE, POISON]])
                assert answer.status_code == 200
                await world.sleep(8 * hour)
        in_outage = await world.counts()
        calls = calls_of(world)
        world.sailthru.faults.set([])
        await world.work_until_told(patience=5 * MINUTE)
        return in_outage, {name: count - calls.get(name, 0) for name, count in calls_of(world).items()}

    with World(tmp_path, different={"retry_window_hours": WINDOW_HOURS / SHORTER[kind]}) as world:
        in_outage, calls = world.run(story(world))
        counts = world.run(world.counts())

        # A newcomer who flips is out, in, out, in ...: ten changes; those on the list have one more.
        assert in_outage["pending"] >= len(PEOPLE)
        assert in_outage["dead"] == 0
        assert (counts["pending"], counts["dead"], counts["accepted"]) == (0, 0, 40 + 41 * 10)
        assert world.sailthru.members(LIST) == {*PEOPLE, POISON}
        assert calls["POST /user"] <= len(PEOPLE) + 1


@pytest.mark.parametrize(
    "fault", [Html(status=503, with_rate_headers=False), Hang(applied=False)], ids=["pages of a proxy", "no answers"]
)
def test_an_outage_that_tells_no_limit_uses_none_of_it_up(tmp_path: Path, fault: AnyFault) -> None:
    """Two hours of probes that may have counted somewhere, five times our share of a minute: once answers come again,
    everybody is told within minutes.
    """

    async def story(world: World) -> None:
        await enter(world, "first@example.com")
        await world.work_until_told()
        world.sailthru.faults.set([Rule(fault)])
        await enter(world, *PEOPLE)
        await world.sleep(2 * 3600)
        world.sailthru.faults.set([])
        await world.work_until_told(patience=5 * MINUTE)

    with World(tmp_path, limits={("POST", "/user"): 30}) as world:
        world.run(story(world))

        assert world.sailthru.members(LIST) == {"first@example.com", *PEOPLE}
        assert world.account()["over_limit"] == {}


def test_a_pause_that_could_not_be_stored_ends_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away just when the last call of all shows an outage, so that no other call's end can store it."""
    save, lost = Accounts.save, [StoreUnavailable("The database is away.")]

    async def save_later(self: Accounts, *standings: Any) -> tuple[BreakerState, BreakerState]:
        if lost:
            raise lost.pop()
        return await save(self, *standings)

    async def story(world: World) -> None:
        await enter(world, "first@example.com")
        await world.work_until_told()
        world.sailthru.faults.set([Rule(Reset(applied=False))])
        for address in PEOPLE[:OUTAGE_FAILURES]:
            await enter(world, address)
            await world.sleep(2)
        world.sailthru.faults.set([])
        assert not lost
        await world.work_until_told(patience=5 * MINUTE)

    monkeypatch.setattr(Accounts, "save", save_later)
    with World(tmp_path) as world:
        world.run(story(world))

        assert world.sailthru.members(LIST) == {"first@example.com", *PEOPLE[:OUTAGE_FAILURES]}


def calls_of(world: World) -> dict[str, int]:
    calls: dict[str, int] = world.account()["calls"]
    return calls


@pytest.mark.parametrize("code", size([3], [3, 4, 5]))
def test_a_refused_key_pauses_the_account_and_ends_by_itself(tmp_path: Path, code: int) -> None:
    """Nobody is given up, one call a minute asks, and all go on within a minute of its end."""

    async def story(world: World) -> datetime:
        await enter(world, "first@example.com")
        await world.work_until_told()
        world.sailthru.faults.set([Rule(Error(status=401, code=code))])
        await enter(world, *PEOPLE)
        await world.sleep(2 * 3600)
        assert (await world.admin("/health/ready"))["accounts"] == {"default": "refused"}
        world.sailthru.faults.set([])
        mended = world.clock()
        while len(world.sailthru.members(LIST)) < len(PEOPLE):
            await world.sleep(1)
        return mended

    with World(tmp_path) as world:
        mended = world.run(story(world))
        calls = world.account()["answers"]["POST /user"]["401"]

        assert world.clock() - mended < 65 * SECOND
        assert calls <= 2 * 60 + len(PEOPLE) + 10
        assert world.run(world.counts())["dead"] == 0


def waits(world: World, sent: dict[str, datetime], account: str = API_KEY) -> dict[str, float]:
    """Seconds from accepted to joined, for each person."""
    joined = {e.email: e.time for e in world.sailthru.account(account).lo_events if e.entry == "List Joined"}
    return {address: (joined[address] - at).total_seconds() for address, at in sent.items() if address in joined}


def p95(seconds: dict[str, float]) -> float:
    return quantiles(seconds.values(), n=20)[-1]


async def trickle(world: World, people: list[str], *, every: float) -> dict[str, datetime]:
    """One person after the other enters; returns when each did."""
    sent = {}
    for address in people:
        sent[address] = world.clock()
        await enter(world, address)
        await world.sleep(every)
    await world.work_until_told(patience=HOUR)
    return sent


def test_slow_calls_of_some_do_not_slow_the_others(tmp_path: Path) -> None:
    """Every tenth call takes half a minute and so ends without an answer; the places it takes are not missed."""
    people = [f"someone{n}@example.com" for n in range(size(150, 600))]
    slow = set(people[::10])

    def story(folder: Path, rules: list[Rule]) -> dict[str, float]:
        folder.mkdir()
        with World(folder, different={"sailthru_concurrency": 16}) as world:
            world.run(trickle(world, ["first@example.com"], every=1))
            world.sailthru.faults.set(rules)
            sent = world.run(trickle(world, people, every=0.05))
            assert world.sailthru.members(LIST) == {"first@example.com", *people}
            return waits(world, {address: at for address, at in sent.items() if address not in slow})

    healthy = story(tmp_path / "healthy", [])
    troubled = story(tmp_path / "troubled", [Rule(Slow(seconds=30), methods=frozenset({"POST"}), ids=frozenset(slow))])

    assert p95(troubled) <= 1.5 * p95(healthy)


def test_a_dead_account_does_not_slow_another(tmp_path: Path) -> None:
    """The same people in two accounts, of which one no longer answers."""
    people = [f"someone{n}@example.com" for n in range(size(60, 200))]
    other = {"other": {"api_key": "other-key", "api_secret": "other-secret", "base_url": "https://sailthru.test"}}

    def story(folder: Path, rules: list[Rule]) -> dict[str, float]:
        folder.mkdir()
        with World(folder, keys={"other-key": "other-secret"}, different={"sailthru_authorizations": other}) as world:
            world.run(trickle(world, ["first@example.com"], every=1))
            (export,) = world.run(world.service.exports.of_audience(SPRING_BUYERS.id))
            world.run(export_to(world, export.audience_id, "other"))
            world.sailthru.faults.set(rules)
            sent = world.run(send_all(world, people, every=0.05))
            return waits(world, sent)

    healthy = story(tmp_path / "healthy", [])
    troubled = story(tmp_path / "troubled", [Rule(Hang(applied=False), api_keys=frozenset({"other-key"}))])

    assert len(troubled) == len(healthy) == len(people)
    assert p95(troubled) <= 1.1 * p95(healthy)


async def export_to(world: World, audience_id: str, account: str) -> None:
    export = await world.service.exports.start(audience_id, audience_slug="", account=account)
    await world.service.exports.name(export.id, "Spring Buyers", "Lytics Spring Buyers")
    world.service.exports_changed()
    await world.sleep(5)


async def send_all(world: World, people: list[str], *, every: float) -> dict[str, datetime]:
    """As `trickle`, but only the account that answers is waited for."""
    sent = {}
    for address in people:
        sent[address] = world.clock()
        await enter(world, address)
        await world.sleep(every)
    async with asyncio.timeout(60):
        while not set(people) <= world.sailthru.account(API_KEY).members(LIST):
            await world.sleep(1)
    return sent
