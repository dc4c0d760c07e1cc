"""isolated: a failing member delays no other, a failing account slows no other, an outage uses up no retry window.

The tests run in virtual time: days pass in seconds, and latencies are exact.
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
from tests.promises.kinds import sqlite_in_small_runs
from tests.service import API_KEY, LIST
from tests.sizes import size
from tests.world import World

kind = sqlite_in_small_runs()

pytestmark = pytest.mark.usefixtures("unmeasured")

PEOPLE = [f"person{n}@example.com" for n in range(40)]
# Divides the retry window and all other times, because each probe and retry takes much longer on PostgreSQL.
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
def test_poison_member_becomes_a_dead_letter_after_the_retry_window(tmp_path: Path, kind: str, fault: AnyFault) -> None:
    """Other members are delivered at once during the 76 hours. The dead letter has a next step."""
    hour = 3600 / SHORTER[kind]

    async def story(world: World) -> tuple[list[timedelta], list[Any], list[Any]]:
        await enter(world, "first@example.com")
        await world.work_until_delivered()
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
        # The last attempt comes up to an hour after the end of the window.
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


@pytest.mark.parametrize("is_list", [False, True], ids=["failing records", "failing list"])
def test_many_failing_members_do_not_delay_others(tmp_path: Path, *, is_list: bool) -> None:
    """Other members wait a minute at first, and later not at all.

    At first a hundred failing members look like an outage, so a new member becomes the next probe. Later the failing
    members are known.
    """
    poison = [f"poison{n}@example.com" for n in range(size(30, 100))]
    autumn = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Autumn Buyers", "autumn_buyers")

    async def story(world: World) -> list[timedelta]:
        await enter(world, "first@example.com")
        await world.work_until_delivered()
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


def test_outage_longer_than_the_retry_window_causes_no_dead_letter(tmp_path: Path, kind: str) -> None:
    """The outage takes 80 hours, the window 76 (a tenth of both on PostgreSQL).

    Ten changes of a member during the outage cost one call.
    """
    hour = 3600 / SHORTER[kind]

    async def story(world: World) -> tuple[dict[str, int], dict[str, int]]:
        await enter(world, *PEOPLE)
        await world.work_until_delivered()
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
        await world.work_until_delivered(patience=5 * MINUTE)
        return in_outage, {name: count - calls.get(name, 0) for name, count in calls_of(world).items()}

    with World(tmp_path, different={"retry_window_hours": WINDOW_HOURS / SHORTER[kind]}) as world:
        in_outage, calls = world.run(story(world))
        counts = world.run(world.counts())

        # A new member has ten changes: out, in, out, in and so on. Members on the list have one more.
        assert in_outage["pending"] >= len(PEOPLE)
        assert in_outage["dead"] == 0
        assert (counts["pending"], counts["dead"], counts["accepted"]) == (0, 0, 40 + 41 * 10)
        assert world.sailthru.members(LIST) == {*PEOPLE, POISON}
        assert calls["POST /user"] <= len(PEOPLE) + 1


@pytest.mark.parametrize(
    "fault", [Html(status=503, with_rate_headers=False), Hang(applied=False)], ids=["HTML of a proxy", "no answer"]
)
def test_probes_without_rate_headers_do_not_use_up_the_rate_limit(tmp_path: Path, fault: AnyFault) -> None:
    """Two hours of probes are five times our share of a minute, and Sailthru may have counted them.

    After the outage all members are delivered within minutes.
    """

    async def story(world: World) -> None:
        await enter(world, "first@example.com")
        await world.work_until_delivered()
        world.sailthru.faults.set([Rule(fault)])
        await enter(world, *PEOPLE)
        await world.sleep(2 * 3600)
        world.sailthru.faults.set([])
        await world.work_until_delivered(patience=5 * MINUTE)

    with World(tmp_path, limits={("POST", "/user"): 30}) as world:
        world.run(story(world))

        assert world.sailthru.members(LIST) == {"first@example.com", *PEOPLE}
        assert world.account()["over_limit"] == {}


def test_unsaved_circuit_breaker_closes_after_the_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database fails just when the last call opens the circuit breaker, so no later call can save its state."""
    save, lost = Accounts.save, [StoreUnavailable("The database is away.")]

    async def save_later(self: Accounts, *states: Any) -> tuple[BreakerState, BreakerState]:
        if lost:
            raise lost.pop()
        return await save(self, *states)

    async def story(world: World) -> None:
        await enter(world, "first@example.com")
        await world.work_until_delivered()
        world.sailthru.faults.set([Rule(Reset(applied=False))])
        for address in PEOPLE[:OUTAGE_FAILURES]:
            await enter(world, address)
            await world.sleep(2)
        world.sailthru.faults.set([])
        assert not lost
        await world.work_until_delivered(patience=5 * MINUTE)

    monkeypatch.setattr(Accounts, "save", save_later)
    with World(tmp_path) as world:
        world.run(story(world))

        assert world.sailthru.members(LIST) == {"first@example.com", *PEOPLE[:OUTAGE_FAILURES]}


def calls_of(world: World) -> dict[str, int]:
    calls: dict[str, int] = world.account()["calls"]
    return calls


@pytest.mark.parametrize("code", size([3], [3, 4, 5]))
def test_refused_key_opens_the_breaker_until_it_is_accepted(tmp_path: Path, code: int) -> None:
    """There are no dead letters and one probe a minute. Delivery resumes within a minute."""

    async def story(world: World) -> datetime:
        await enter(world, "first@example.com")
        await world.work_until_delivered()
        world.sailthru.faults.set([Rule(Error(status=401, code=code))])
        await enter(world, *PEOPLE)
        await world.sleep(2 * 3600)
        assert (await world.admin("/health/ready"))["accounts"] == {"default": "refused"}
        world.sailthru.faults.set([])
        accepted_at = world.clock()
        while len(world.sailthru.members(LIST)) < len(PEOPLE):
            await world.sleep(1)
        return accepted_at

    with World(tmp_path) as world:
        accepted_at = world.run(story(world))
        calls = world.account()["answers"]["POST /user"]["401"]

        assert world.clock() - accepted_at < 65 * SECOND
        assert calls <= 2 * 60 + len(PEOPLE) + 10
        assert world.run(world.counts())["dead"] == 0


def waits(world: World, sent: dict[str, datetime], account: str = API_KEY) -> dict[str, float]:
    """Return the seconds from the webhook to the join, by address."""
    events = world.sailthru.account(account).lo_events
    joined = {event.email: event.time for event in events if event.entry == "List Joined"}
    return {address: (joined[address] - at).total_seconds() for address, at in sent.items() if address in joined}


def p95(seconds: dict[str, float]) -> float:
    return quantiles(seconds.values(), n=20)[-1]


async def trickle(world: World, people: list[str], *, every: float) -> dict[str, datetime]:
    """Send one enter every `every` seconds, wait until all are delivered, and return the times by address."""
    sent = {}
    for address in people:
        sent[address] = world.clock()
        await enter(world, address)
        await world.sleep(every)
    await world.work_until_delivered(patience=HOUR)
    return sent


def test_slow_calls_do_not_slow_other_members(tmp_path: Path) -> None:
    """Every tenth call takes half a minute, so it ends without an answer."""
    people = [f"person{n}@example.com" for n in range(size(150, 600))]
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
    faulty = story(tmp_path / "faulty", [Rule(Slow(seconds=30), methods=frozenset({"POST"}), ids=frozenset(slow))])

    assert p95(faulty) <= 1.5 * p95(healthy)


def test_dead_account_does_not_slow_another(tmp_path: Path) -> None:
    """Two accounts have the same members, and one account does not answer."""
    people = [f"person{n}@example.com" for n in range(size(60, 200))]
    other = {"other": {"api_key": "other-key", "api_secret": "other-secret", "base_url": "https://sailthru.test"}}

    def story(folder: Path, rules: list[Rule]) -> dict[str, float]:
        folder.mkdir()
        with World(folder, keys={"other-key": "other-secret"}, different={"sailthru_authorizations": other}) as world:
            world.run(trickle(world, ["first@example.com"], every=1))
            (export,) = world.run(world.service.exports.find_by_audience(SPRING_BUYERS.id))
            world.run(export_to(world, export.audience_id, "other"))
            world.sailthru.faults.set(rules)
            sent = world.run(send_all(world, people, every=0.05))
            return waits(world, sent)

    healthy = story(tmp_path / "healthy", [])
    faulty = story(tmp_path / "faulty", [Rule(Hang(applied=False), api_keys=frozenset({"other-key"}))])

    assert len(faulty) == len(healthy) == len(people)
    assert p95(faulty) <= 1.1 * p95(healthy)


async def export_to(world: World, audience_id: str, account: str) -> None:
    export = await world.service.exports.start(audience_id, audience_slug="", account=account)
    await world.service.exports.name(export.id, "Spring Buyers", "Lytics Spring Buyers")
    world.service.exports_changed()
    await world.sleep(5)


async def send_all(world: World, people: list[str], *, every: float) -> dict[str, datetime]:
    """Do the same as `trickle`, but wait only for the account that answers."""
    sent = {}
    for address in people:
        sent[address] = world.clock()
        await enter(world, address)
        await world.sleep(every)
    async with asyncio.timeout(60):
        while not set(people) <= world.sailthru.account(API_KEY).members(LIST):
            await world.sleep(1)
    return sent
